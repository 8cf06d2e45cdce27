"""Files are written whole, only in the place of files, and under the names that users give."""

import errno
import os
import stat

import pytest
import torch

from mnist_zoo import (
    Digits,
    Recipe,
    TrainingError,
    WeightsError,
    fit,
    from_torchvision,
    lenet5,
    load_model,
    save_model,
)
from mnist_zoo._files import written_whole
from mnist_zoo.export import ExportError, export, load_session
from mnist_zoo.export.comparing import failures_named
from mnist_zoo.training import History

DIGITS = Digits(torch.randint(256, (20, 1, 28, 28)).byte(), torch.arange(20) % 10)
RECIPE = Recipe(lr=0.01, batch_size=10, epochs=1)
WRITERS = {
    "save_model": (lambda path: save_model(lenet5(), path), ".safetensors"),
    "History.save": (lambda path: History(RECIPE, 1).save(path), ".json"),
    "export": (lambda path: export(lenet5(), path, format="torchscript"), ".pt"),
}
READERS = {
    "load_model": (load_model, ".safetensors"),
    "weights": (lambda path: lenet5(weights=path), ".pth"),
    "from_torchvision": (lambda path: from_torchvision(lenet5(), path), ".pth"),
    "load_session": (load_session, ".onnx"),
    "History.load": (History.load, ".json"),
    "Digits.from_csv": (Digits.from_csv, ".csv"),
    "Digits.from_folder": (Digits.from_folder, ""),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_only_files_are_replaced(writer, tmp_path):
    write, ending = WRITERS[writer]
    pipe, folder = tmp_path / f"pipe{ending}", tmp_path / f"folder{ending}"
    os.mkfifo(pipe)
    folder.mkdir()
    link = tmp_path / f"link{ending}"
    link.symlink_to(pipe)
    for path, kind in ((pipe, "a device"), (link, "a device"), (folder, "a folder")):
        with pytest.raises(ValueError, match=f"`path` .* must be a file; it is {kind}"):
            write(path)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(tmp_path.iterdir()) == sorted([pipe, folder, link])


@pytest.mark.parametrize("writer", WRITERS)
def test_impossible_places_are_refused_by_name(writer, tmp_path):
    write, ending = WRITERS[writer]
    (tmp_path / "file").touch()
    for place, error, rule in (
        (f"{tmp_path}/none/x{ending}", FileNotFoundError, "in a folder that exists"),
        (f"{tmp_path}/file/x{ending}", FileNotFoundError, "in a folder that exists"),
        (f"{tmp_path}/{'x' * 300}{ending}", ValueError, "cannot be written: File name too long"),
        (f"{tmp_path}/x\0{ending}", ValueError, "must not hold the character NUL"),
        (f"{tmp_path}/x{ending}".encode(), TypeError, "must be a str or a Path"),
        (None, TypeError, r"\(=None\) must be a str or a Path"),
    ):
        with pytest.raises(error, match=f"`path` .*{rule}"):
            write(place)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_names_the_file_and_leaves_it_as_it_was(tmp_path):
    """Here by the limit of the system on the size of a file, which Python tells as it does."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "network.safetensors"
    save_model(lenet5(), path)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"too large: '.*network.safetensors'"):
            save_model(lenet5(), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_a_full_disk_is_not_taken_for_a_network_that_cannot_be_exported():
    rule = r"cannot be exported as c: \[Errno 28\] No space left"
    with pytest.raises(ExportError, match=rule), failures_named(lenet5(), "c"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_device_is_never_replaced(tmp_path):
    """A program that runs as root would take it away from all others."""
    os.mkfifo(tmp_path / "device")
    with pytest.raises(FileExistsError, match="must be a file"), written_whole(tmp_path / "device"):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["device"]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_name_that_begins_with_a_tilde_is_a_name(writer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", f"{tmp_path}/home")
    (tmp_path / "home").mkdir()
    write, ending = WRITERS[writer]
    for name in (f"~1{ending}", f"~nobody's{ending}", f"~/2{ending}"):
        write(name)
    assert {file.name for file in tmp_path.iterdir()} == {
        f"~1{ending}",
        f"~nobody's{ending}",
        "home",
    }
    assert [file.name for file in (tmp_path / "home").iterdir()] == [f"2{ending}"]


@pytest.mark.parametrize("reader", READERS)
def test_readers_take_names_with_a_tilde_and_refuse_others_by_name(reader, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    read, ending = READERS[reader]
    for name in (f"~1{ending}", f"~/none{ending}", "x" * 300 + ending):
        with pytest.raises((FileNotFoundError, ValueError, OSError), match=r"none|~1|xxx"):
            read(name)
    with pytest.raises(TypeError, match=r"str or a Path|a network, a state dict"):
        read(b"bytes")
    os.mkfifo(f"pipe{ending}")  # opened for reading, it would wait for ever
    with pytest.raises((ValueError, RuntimeError), match="must be a f"):
        read(f"pipe{ending}")


@pytest.mark.parametrize("folder", ["x\0y", "x" * 300, "file", "file/x"])
def test_impossible_folders_of_a_run_are_told_before_training(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"`folder` .* cannot be written"):
        fit(lenet5(), DIGITS, recipe=RECIPE, folder=folder, hook=pytest.fail, progress=False)


def test_a_folder_of_another_type_is_named():
    with pytest.raises(TypeError, match=r"`folder` \(=b'run'\) must be a str or a Path"):
        fit(lenet5(), DIGITS, recipe=RECIPE, folder=b"run", progress=False)


def test_weights_of_a_folder_are_an_error(tmp_path):
    with pytest.raises(WeightsError, match="must be a file"):
        lenet5(weights=tmp_path)

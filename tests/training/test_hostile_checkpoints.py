"""Files of strangers in the folder of a run: refused in little memory."""

import os
import struct
import subprocess
import sys
import zipfile
from functools import partial
from io import BytesIO

import pytest
import torch
from weights_cases import MEMORY, hostile_pickles, zipped

from mnist_zoo import Recipe, fit, load_mnist

RECIPE = Recipe(network="lenet5", lr=0.01, batch_size=20, epochs=1)

READ = (
    MEMORY
    + """
import sys
from pathlib import Path
from mnist_zoo import *
digits = load_mnist("all", source="sample")[:60]
recipe = Recipe.from_json(sys.argv[1])
def refusal(folder):
    try:
        fit(recipe, digits, folder=folder, progress=False)
    except CheckpointError as error:
        return str(error)
    return ""
folder = Path(sys.argv[2])
refusal(folder / "warm")  # torch takes memory at the first step
for path in sorted(folder.glob("*/*-000000009.pt")):
    base = forget_peak()
    message = refusal(path.parent)
    assert path.name in message, (path, message)
    assert len(message) < 4000, message[:4000]
    grown = memory("VmHWM") - base
    assert grown < 250_000, (path, grown)
    print(message.replace(chr(10), " "))
"""
)


def sparse(path):
    """A zip archive whose one member claims 1.4 GB, of which the disk holds none."""
    zipped(path, b"\x80\x02}.")
    tail = path.read_bytes()
    path.write_bytes(b"PK\3\4")
    os.truncate(path, 1_400_000_000)
    with path.open("ab") as file:
        file.write(tail)


def overlapping(path):
    """Sixty storages of 5 MB each, all of which the table of contents puts at one place."""
    state = {str(i): torch.zeros(5_000_000, dtype=torch.uint8) for i in range(60)}
    file = BytesIO()
    torch.save({"format": "mnist_zoo checkpoint 2", "model": state}, file)
    with zipfile.ZipFile(file) as saved, zipfile.ZipFile(path, "w") as archive:
        for name in saved.namelist()[:3]:
            archive.writestr(name, saved.read(name))
        first, *others = (entry for entry in saved.infolist() if "/data/" in entry.filename)
        archive.writestr(first.filename, saved.read(first))
        place = archive.getinfo(first.filename).header_offset
        for entry in others:
            entry.header_offset = place
            archive.filelist.append(entry)


def changed(change):
    """Writes a checkpoint of the run with one part changed."""

    def write(path):
        images = load_mnist("all", source="sample")[:60]
        options = {"folder": path.parent / "run", "progress": False, "checkpoint_every": 1}
        fit(RECIPE, images, **options, hook=lambda h: h.step == 2)
        state = torch.load(max((path.parent / "run").iterdir()), weights_only=True)
        change(state)
        torch.save(state, path)

    return write


def endless(state):
    state["history"] = {key: torch.zeros(1).expand(10**12) for key in ("loss", "accuracy", "lr")}


FILES = {
    "sparse": sparse,
    "overlapping": overlapping,
    "endless": changed(endless),
    "large": changed(lambda s: s.update(best={"fc1.weight": torch.zeros(30_000_000)})),
    "wide": changed(lambda s: s["model"].update(x=torch.zeros(1).expand(10**6, 10**6))),
    "text": changed(lambda s: s["network"].update(layers="𝄞" * 20_000_000)),
    "cut": lambda path: path.write_bytes(b"\x80\x02X" + struct.pack("<I", 2**31 - 1)),
}


REASONS = {
    "short doubled": "its values contain each other too often",
    "short in a circle": "its values contain each other too often",
    "overlapping": "its tensors have more numbers than the file",
    "endless": "has more numbers than the file holds for it",
    "large": "it has best weights, which this recipe does not keep",
    "text": "it describes its tensors in more than",
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
def test_files_of_strangers_are_refused_in_little_memory(tmp_path):
    pickles = hostile_pickles(100_000)
    writers = {
        **{f"short {k}": partial(zipped, pickle=b"\x80\x02" + v) for k, v in pickles.items()},
        **FILES,
    }
    for name, write in writers.items():
        (tmp_path / name).mkdir()
        write(tmp_path / name / "checkpoint-000000009.pt")
    command = [sys.executable, "-W", "ignore", "-c", READ, RECIPE.to_json(), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    messages = dict(zip(sorted(writers), done.stdout.splitlines(), strict=True))
    for name, reason in REASONS.items():
        assert reason in messages[name], messages[name]

"""Progress on the screen and in TensorBoard."""

import re
import sys

import pytest

from mnist_zoo import History, Recipe, fit


def test_progress_prints_a_line_per_epoch_and_nothing_when_off(digits, capsys):
    recipe = Recipe(network="lenet5", lr=0.05, batch_size=32, epochs=2)
    fit(recipe, *digits, progress=False)
    assert capsys.readouterr() == ("", "")
    fit(recipe, *digits)
    out, err = capsys.readouterr()
    assert len(re.findall(r"epoch \d: loss .*; validation loss .*, accuracy [\d.]+%", out)) == 2
    assert "600/600" in err


def test_evaluations_on_the_test_set_are_called_so(capsys, tmp_path):
    recipe = Recipe(network="lenet5", lr=0.05, batch_size=1000, epochs=1, source="sample")
    history = fit(recipe, folder=tmp_path)
    out = capsys.readouterr().out
    assert "; test loss" in out
    assert "validation" not in out
    again = History.from_dict(fit(recipe, folder=tmp_path, progress=False).to_dict())
    assert again.evaluations == history.evaluations
    assert again.evaluated == history.evaluated == "test"
    held_out = fit(recipe.replace(sizes=(100, 50, 50)), progress=False)
    assert held_out.evaluated == "validation"


def test_tensorboard_holds_every_step(digits, tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    recipe = Recipe(network="lenet5", lr=0.05, batch_size=64, epochs=2)
    history = fit(recipe, *digits, progress=False, tensorboard=tmp_path)
    events = reader.EventAccumulator(str(tmp_path)).Reload()
    steps = events.Scalars("train/loss")
    assert [e.step for e in steps] == list(range(1, 11))
    assert [e.value for e in steps] == pytest.approx(history.loss, rel=1e-6)
    found = [e.value for e in events.Scalars("validation/accuracy")]
    assert found == pytest.approx([e.accuracy for e in history.evaluations])


def test_missing_tensorboard_error_says_how_to_install_it(digits, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "mnist-zoo\[tensorboard\]"'):
        fit("lenet5_report", digits[0], progress=False, tensorboard=tmp_path)

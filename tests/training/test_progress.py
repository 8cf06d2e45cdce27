"""Progress on the screen and in TensorBoard."""

import re
import sys

import pytest

from mnist_zoo import Recipe, fit


def test_progress_prints_a_line_per_epoch_and_nothing_when_off(digits, capsys):
    recipe = Recipe(network="lenet5", lr=0.05, batch_size=32, epochs=2)
    fit(recipe, *digits, progress=False)
    assert capsys.readouterr() == ("", "")
    fit(recipe, *digits)
    out, err = capsys.readouterr()
    assert len(re.findall(r"epoch \d: loss .*; validation loss .*, accuracy [\d.]+%", out)) == 2
    assert "600/600" in err


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
    with pytest.raises(ModuleNotFoundError, match="pip install tensorboard"):
        fit("lenet5_report", digits[0], progress=False, tensorboard=tmp_path)

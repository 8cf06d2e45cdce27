"""History: sums per epoch, and the file."""

import pytest

from mnist_zoo import History, Recipe, fit


def test_history_averages_steps_per_epoch_and_survives_saving(digits, tmp_path):
    recipe = Recipe(network="lenet5", lr=0.05, momentum=0.9, batch_size=64, epochs=3)
    history = fit(recipe, *digits, progress=False)
    assert (history.step, history.steps_per_epoch, len(history.epochs)) == (15, 5, 3)
    record = history.epochs[1]
    assert record.train_loss == pytest.approx(sum(history.loss[5:10]) / 5)
    assert (record.loss, record.accuracy) == (
        history.evaluations[1].loss,
        history.evaluations[1].accuracy,
    )
    assert history.seconds > 0
    history.save(tmp_path / "history.json")
    read = History.load(tmp_path / "history.json")
    assert read == history
    with pytest.raises(ValueError, match="from a file has no network; load_model"):
        _ = read.model


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b"null", b'"x"', b"\xff", b"[" * 10_000, b'{"evaluations": 3}'],
)
def test_foreign_files_are_refused(content, tmp_path):
    (tmp_path / "h.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"'.*h.json' must be a file of History.save"):
        History.load(tmp_path / "h.json")

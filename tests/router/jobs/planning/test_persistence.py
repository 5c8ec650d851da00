"""What was learned of lengths, over a restart."""

from __future__ import annotations

from router.jobs.planning.length_predictor import LengthPredictor
from router.jobs.planning.persistence import PredictorPersistence
from tests.router.jobs.stage import MODEL, waiting


def test_what_was_learned_is_known_to_the_next_router(tmp_path):
    """And a file that cannot be read is learned anew."""
    path, lengths = tmp_path / "lengths.json", LengthPredictor()
    for _ in range(40):
        lengths.learn(waiting().pending, 700)
    PredictorPersistence(path, lengths).save()
    again = LengthPredictor()
    memory = PredictorPersistence(path, again)
    memory.load()
    assert lengths.state() == again.state()
    assert LengthPredictor().predict(MODEL, 40) < again.predict(MODEL, 40)
    path.write_text("{")
    PredictorPersistence(path, LengthPredictor()).load()


def test_nothing_new_is_not_written(tmp_path):
    """A quiet router leaves the disk alone."""
    memory = PredictorPersistence(tmp_path / "lengths.json", LengthPredictor())
    memory.save()
    (tmp_path / "lengths.json").unlink()
    memory.save()
    assert not (tmp_path / "lengths.json").exists()

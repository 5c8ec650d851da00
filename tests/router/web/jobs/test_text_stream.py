"""The whole text of a job, in order, from any place that a reader was at."""

from __future__ import annotations

from functools import partial

import pytest

from router.jobs.model import ItemFault
from router.jobs.output import joined
from router.jobs.store import items
from router.jobs.store.database import JobDatabase, database_url
from router.jobs.store.schema import migrate
from router.web.jobs.fields import FieldError
from router.web.jobs.text_stream import (
    MOST_CHARACTERS,
    JobText,
    TextPosition,
    read_mark,
)
from tests.router.jobs.store.stage import JOB, filled, result

FAILED = ItemFault("dead", "no answer")
LONG = "é" + "x" * (2 * MOST_CHARACTERS) + "🦙"
TEXTS = [
    None,
    "one",
    "",
    LONG,
    None,
    "five",
    *(f"text {n}" for n in range(6, 250)),
    None,
]


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A job whose rows said this, or failed."""
    made = JobDatabase(database_url("", tmp_path_factory.mktemp("db"), None), migrate)
    made.open()
    filled(made, len(TEXTS))
    for n, text in enumerate(TEXTS):
        ended = result(n, error=FAILED if text is None else None, text=text or "")
        made.write(partial(items.finish, job=JOB, result=ended))
    yield made
    made.close()


def follow(database, at: TextPosition | None = None):
    return list(JobText(database, JOB, "|", at or TextPosition()).up_to(None))


def whole(database) -> str:
    return b"".join(joined(database, JOB, "|")).decode()


def test_pieces_are_the_whole_text(database):
    """In order, none empty, none longer than the bound; as the output has it."""
    pieces = [piece for _, piece in follow(database)]
    assert whole(database) == "".join(pieces)
    assert 1 <= min(map(len, pieces))
    assert MOST_CHARACTERS >= max(map(len, pieces))
    assert len(pieces) < 12, "short texts go together"


def test_going_on_from_every_mark(database):
    """Whoever comes again with an id gets what follows, no character twice."""
    sent = ""
    for mark, piece in follow(database):
        sent += piece
        again = read_mark(str(mark))
        assert again == mark
        assert whole(database) == sent + "".join(p for _, p in follow(database, again))


@pytest.mark.parametrize("step", [1, 7, 100])
def test_following_as_it_grows(database, step):
    """The rows that are complete, and no more; failed rows leave nothing."""
    text, sent = JobText(database, JOB, "|", TextPosition()), ""
    for rows in range(0, len(TEXTS) + step, step):
        for mark, piece in text.up_to(min(rows, len(TEXTS))):
            sent += piece
            assert mark.row <= rows
        said = [each for each in TEXTS[:rows] if each is not None]
        assert "|".join(said) == sent


def test_nothing_is_read_twice(database):
    """Once at the end, no call asks the database again."""
    text = JobText(database, JOB, "|", TextPosition())
    assert list(text.up_to(len(TEXTS)))
    calls = []
    database.committed = lambda *_: calls.append(1)
    assert [] == list(text.up_to(len(TEXTS)))
    assert [] == calls


@pytest.mark.parametrize("given", ["7", "1.2.3", "-1.0.0", "a.b.c", "1.0.1 ", "٣.0.0"])
def test_an_id_that_is_none_of_ours(given):
    """It is refused: a text with a gap, or twice, would go unseen."""
    with pytest.raises(FieldError, match="Last-Event-ID: must be an id"):
        read_mark(given)


def test_no_id_is_the_beginning():
    """A reader that comes for the first time has none."""
    assert TextPosition() == read_mark(None) == read_mark("")

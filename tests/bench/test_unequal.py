"""The benchmark beside peers: what it counts, what it draws, and a small run of it."""

from __future__ import annotations

import json
import math

import pytest

from bench.replay import MODEL, Answered, Target
from bench.unequal import COURSE_SECONDS, draw, main, quantile, rolling, rows
from simulator.virtual.workload import Ask


def answers(count: int, *, fails: int = 0) -> list[Answered]:
    """Return replies that took 1 s, 2 s, ...; the last ones failed."""
    return [
        Answered(2.0 * n, 1.0 + n, "4090-a", "refused" if n >= count - fails else "")
        for n in range(count)
    ]


def test_figures_are_of_good_replies():
    """The first fifth only warms up; every failure counts."""
    assert [["a", "11", "1", "6.00 s", "9.00 s", "9.00 s"]] == rows(
        {"a": answers(11, fails=1)}
    )
    assert math.isnan(quantile(answers(2, fails=2), 0.5))


def test_windows_of_the_course():
    """Each window holds who came in it."""
    at, found = rolling(answers(20), 1.0)
    assert (5.0, 5.0) == (at[0], found[0])
    assert (len(at), True) == (len(found), math.isnan(found[-1]))


def test_a_picture(tmp_path):
    """Drawn with and without failures."""
    path = tmp_path / "course.png"
    count = int(COURSE_SECONDS / 2)
    draw({"router": answers(count), "nginx": answers(count, fails=3)}, "title", path)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/api/generate", {"options": {"num_predict": 7}, "raw": True}),
        ("/api/chat", {"options": {"num_predict": 7}}),
        ("/v1/chat/completions", {"max_tokens": 7}),
    ],
)
def test_requests_of_each_dialect(path, asked):
    """As many tokens are asked for, of about as long a prompt."""
    head, _, body = (
        Target(1, path, whole=True).message(Ask(3, 7)).partition(b"\r\n\r\n")
    )
    fields = json.loads(body)
    assert f"POST {path} ".encode() in head
    assert {"model": MODEL.name, "stream": False, **asked}.items() <= fields.items()
    text = fields.get("prompt") or fields["messages"][0]["content"]
    assert "lorelorelore" == text


@pytest.mark.e2e
@pytest.mark.long
def test_a_small_table(capsys):
    """The real router in front of simulated nodes answers all of them."""
    main(["table", "--requests", "20", "--proxies", "router"])
    last = capsys.readouterr().out.splitlines()[-1].split()
    assert ["router", "20", "0"] == last[:3]

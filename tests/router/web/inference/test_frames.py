"""How straight a request's way is: a bound on our own frames, so that it stays so."""

from __future__ import annotations

import sys

import pytest

from tests.harness.process import ROOT
from tests.router.web.inference.stage import DONE, PlayedNode, Stage, chunks, line

# From gunicorn's call into the application until the kernel takes the request.
MOST_FRAMES = 9


def ours(frame) -> list[str]:
    """Name the frames of the router on a stack, the outermost first."""
    names: list[str] = []
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(f"{ROOT}/router/"):
            names.insert(0, code.co_qualname)
        frame = frame.f_back
    return names


@pytest.fixture
def stage(tmp_path):
    made = Stage(tmp_path, {"a": PlayedNode(chunks([line("hi"), DONE]))})
    yield made
    made.close()


def test_few_frames_until_the_bytes_go_to_the_node(stage):
    """Each layer more would be one more place where a request may be looked for."""
    stacks = []

    def watch(frame, event, function):
        sends = event == "c_call" and getattr(function, "__name__", "") == "send"
        if sends and frame.f_code.co_filename.endswith("router/relay/pool.py"):
            stacks.append(ours(frame))

    def profiled(call):
        sys.setprofile(watch)
        try:
            call()
        finally:
            sys.setprofile(None)

    fields = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    answer = stage.post("/api/chat", fields, around=profiled)
    assert (200, "hi") == (answer.status, answer.text)
    assert len(stacks) == 1
    way = stacks[0][stacks[0].index("serve") + 1 :]
    assert len(way) <= MOST_FRAMES, way
    assert ("Ingress.__call__", "Backends.send") == (way[0], way[-2])

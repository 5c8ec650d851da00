"""Bodies that ended runners are known again, for a while, and only those."""

from __future__ import annotations

import pytest

from router.health.offenders import Offenders, digest_of, may_end_runners
from router.model import Cause

BODY = b'{"model":"m","prompt":"poison","stream":false}'


@pytest.mark.parametrize(
    ("body", "same"),
    [
        (b'{"prompt": "poison", "model": "m"}', True),
        (b'{"model":"m","prompt":"poison","stream":true,"keep_alive":"5m"}', True),
        (b'{"model":"m","prompt":"harmless","stream":false}', False),
        (b'{"model":"n","prompt":"poison","stream":false}', False),
        (b"--form", False),
    ],
    ids=["order", "stream", "prompt", "model", "a form"],
)
def test_digest(body, same):
    """What does not change what a node computes does not hide a body."""
    assert same is (digest_of(body) == digest_of(BODY))


def test_remembered_for_a_while():
    """A verdict ends with its time, a body that was answered is cleared at once."""
    now = [0.0]
    offenders = Offenders(lambda: now[0], seconds=10)
    digest = digest_of(BODY)
    assert not offenders
    offenders.died(digest, 1)
    assert 1 == offenders.find(digest).deaths
    offenders.convict(digest, "it ends runners")
    assert "it ends runners" == offenders.find(digest).verdict
    now[0] = 10.1
    assert "" == offenders.find(digest).verdict
    offenders.convict(digest, "again")
    offenders.clear(digest)
    assert not offenders


def test_bounded():
    """Of too many the oldest are let go."""
    offenders = Offenders(lambda: 0.0, most=3)
    for n in range(5):
        offenders.died(digest_of(b"%d" % n), 1)
    assert 3 == len(offenders)
    assert 0 == offenders.find(digest_of(b"0")).deaths
    assert 1 == offenders.find(digest_of(b"4")).deaths


@pytest.mark.parametrize(
    ("cause", "body", "expected"),
    [
        (Cause.RUNNER_DIED, b"{}", True),
        (Cause.RESET, b"{}", True),
        (Cause.LOAD_FAILED, b'{"options":{"num_batch":0}}', True),
        (Cause.LOAD_FAILED, b'{"options":{"num_predict":5}}', False),
        (Cause.GPU_ERROR, b'{"prompt":"say num_ctx"}', False),
        (Cause.ERROR, b'{"options":{"num_ctx":1}}', False),
        (Cause.DENIED, b"{}", False),
    ],
)
def test_what_may_be_the_request(cause, body, expected):
    """A load fails by the request only where it says how to load."""
    assert expected is may_end_runners(cause, body)

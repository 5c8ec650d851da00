"""Silences: what is asked of Alertmanager, and what an operator hears of a failure."""

from __future__ import annotations

from collections import Counter

import pytest

from router.clients.alertmanager import SilenceError, Silences
from router.clients.session import Service, ServiceError
from tests.router.control.fakes import cordon

SERVICE = Service("http://am:9093", 3.0)


class Alertmanager:
    """Answers what it is told to, and remembers what it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []
        self.counted: Counter[tuple[str, bool]] = Counter()
        self.silences = Silences(SERVICE, self, ask=self.ask)

    def ask(self, service, method, path, *, body=None):
        assert service is SERVICE
        self.asked.append((method, path, body))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def silenced(self, operation, *, done):
        self.counted[operation, done] += 1


def test_a_silence_lasts_as_long_as_its_cordon():
    """It is for every alert of the node, and says who and why."""
    peer = Alertmanager((200, {"silenceID": "s-1"}))
    silence = peer.silences.post(cordon(since=0.0, until=60.0))
    assert (silence.id, silence.until) == ("s-1", 60.0)
    ((method, path, body),) = peer.asked
    assert (method, path) == ("POST", "/api/v2/silences")
    assert body == {
        "matchers": [
            {"name": "node", "value": "rig", "isRegex": False, "isEqual": True}
        ],
        "startsAt": "1970-01-01T00:00:00.000+00:00",
        "endsAt": "1970-01-01T00:01:00.000+00:00",
        "createdBy": "ann",
        "comment": "cordoned: new fans",
    }
    assert peer.counted == {("post", True): 1}


def test_a_cordon_without_an_end_is_silenced_for_a_day():
    """A silence must end; one that is forgotten must not hide a node for good."""
    peer = Alertmanager((200, {"silenceID": "s-1"}))
    assert peer.silences.post(cordon(since=0.0)).until == 86_400.0


@pytest.mark.parametrize(
    "answer",
    [
        (200, {}),
        (200, None),
        (400, "bad matcher"),
        ServiceError("no answer within 3 s"),
    ],
    ids=["no id", "nothing", "refused", "silent"],
)
def test_a_silence_that_was_not_posted_is_told(answer):
    """The text names what went wrong."""
    peer = Alertmanager(answer)
    with pytest.raises(SilenceError, match="alertmanager: "):
        peer.silences.post(cordon())
    assert peer.counted == {("post", False): 1}


@pytest.mark.parametrize(
    "answer",
    [(200, None), (404, "not found"), (500, "silence x already expired")],
    ids=["lifted", "unknown", "expired"],
)
def test_a_silence_is_lifted(answer):
    """One that is over already is as good as lifted."""
    peer = Alertmanager(answer)
    peer.silences.lift("s-1")
    assert peer.asked == [("DELETE", "/api/v2/silence/s-1", None)]
    assert peer.counted == {("lift", True): 1}


@pytest.mark.parametrize("answer", [(500, "disk is full"), ServiceError("refused")])
def test_a_silence_that_stays_is_told(answer):
    """Somebody has to lift it by hand, or wait for its end."""
    peer = Alertmanager(answer)
    with pytest.raises(SilenceError):
        peer.silences.lift("s-1")
    assert peer.counted == {("lift", False): 1}

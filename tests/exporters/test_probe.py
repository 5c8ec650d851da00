"""Which targets are probed, and how many are remembered."""

from __future__ import annotations

import pytest

from exporters.access import NO_ACCESS, Access
from exporters.allowlist import Targets
from exporters.collectors.system import SystemCollector
from exporters.probe import REMEMBERED, Prober, RefusedError


class Everything:
    def access(self, target: str) -> Access | None:
        return NO_ACCESS


@pytest.mark.parametrize(
    ("targets", "status", "message"),
    [
        pytest.param([], 400, "target: give one, got 0", id="none"),
        pytest.param(
            ["http://a", "http://a"], 400, "target: give one, got 2", id="two"
        ),
        pytest.param(
            ["ftp://a"],
            400,
            "target: must begin with http:// or https://, got 'ftp://a'",
            id="not http",
        ),
        pytest.param(
            ["http://b"],
            403,
            "target: not among --probe-targets: 'http://b:80'",
            id="not allowed",
        ),
    ],
)
def test_a_target_is_refused(targets, status, message) -> None:
    """Clear text, and the status that says whose fault it is."""
    with pytest.raises(RefusedError) as caught:
        Prober(Targets("http://a")).runner(targets)
    assert (caught.value.status, str(caught.value)) == (status, message)


def test_a_target_keeps_its_runner() -> None:
    """Else a target that hangs would hold one more thread with each probe."""
    prober = Prober(Everything())
    assert prober.runner(["http://a:80"]) is prober.runner(["http://A/"])
    assert prober.runner(["http://a:80"]) is not prober.runner(["http://b:80"])


def test_the_memory_is_bounded() -> None:
    """The target that was probed longest ago is forgotten first."""
    prober = Prober(Everything(), lambda *_: SystemCollector())
    first = prober.runner(["http://a:1"])
    second = prober.runner(["http://a:2"])
    for port in range(3, REMEMBERED + 1):
        prober.runner([f"http://a:{port}"])
    assert prober.runner(["http://a:1"]) is first
    prober.runner([f"http://a:{REMEMBERED + 1}"])
    assert prober.runner(["http://a:1"]) is first
    assert prober.runner(["http://a:2"]) is not second

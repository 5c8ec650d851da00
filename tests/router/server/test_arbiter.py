"""gunicorn's master is left no way to a second worker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.arbiter import Arbiter
from structlog.testing import CapturingLogger

from router.server.arbiter import refuse_second_worker


def arbiter(workers=1, is_ssl=False):
    return SimpleNamespace(num_workers=workers, cfg=SimpleNamespace(is_ssl=is_ssl))


@pytest.mark.parametrize("name", ["hup", "usr2", "ttin", "ttou"])
def test_signals_are_refused(name):
    """Each handler that gunicorn looks up says why not, and does no more."""
    assert hasattr(Arbiter, f"handle_{name}")
    log: Any = CapturingLogger()
    master = arbiter()
    refuse_second_worker(master, log)
    getattr(master, f"handle_{name}")()
    (entry,) = log.calls
    assert ("warning", ("signal_refused",)) == (entry.method_name, entry.args)
    assert entry.kwargs["signal"] == f"SIG{name.upper()}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 3}, "workers must be 1, got 3"),
        ({"is_ssl": True}, "TLS is not spoken here"),
    ],
    ids=["three workers", "TLS"],
)
def test_settings_end_the_start(settings, message, capsys):
    """What the router cannot do with is told before anything runs."""
    log: Any = CapturingLogger()
    with pytest.raises(SystemExit) as ended:
        refuse_second_worker(arbiter(**settings), log)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err

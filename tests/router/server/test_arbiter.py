"""gunicorn's master is left no way to a second worker."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from gunicorn.arbiter import Arbiter

from router.server.arbiter import refuse_second_worker


class Log:
    def __init__(self):
        self.told = []

    def warning(self, event, *_args, **fields):
        self.told.append((event, fields["signal"]))


def arbiter(workers=1, is_ssl=False):
    return SimpleNamespace(num_workers=workers, cfg=SimpleNamespace(is_ssl=is_ssl))


@pytest.mark.parametrize("name", ["hup", "usr2", "ttin", "ttou"])
def test_signals_are_refused(name):
    """Each handler that gunicorn looks up says why not, and does no more."""
    assert hasattr(Arbiter, f"handle_{name}")
    master, log = arbiter(), Log()
    refuse_second_worker(master, log)
    getattr(master, f"handle_{name}")()
    assert [("signal_refused", f"SIG{name.upper()}")] == log.told


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
    with pytest.raises(SystemExit) as ended:
        refuse_second_worker(arbiter(**settings), Log())
    assert ended.value.code == 2
    assert message in capsys.readouterr().err

"""What holds for every test."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests.harness.cases import LONG

# On a machine that stalls, an example's time says nothing of the code.
settings.register_profile("inferops", deadline=None)
settings.load_profile("inferops")

SKIP_LONG = pytest.mark.skip(reason="a long case: `make test-long` runs it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests of real processes one second chance on a machine that stalls.

    Each that needed it is listed at the end of the run with what it saw first; there
    are eight chances at most. `make test ARGS='--force-reruns 0'` gives none.
    """
    for item in items:
        if item.get_closest_marker("e2e"):
            item.add_marker(pytest.mark.flaky(reruns=1))
        if item.get_closest_marker("long") and not LONG:
            folder = item.path.parts
            if "chaos" not in folder and "compose" not in folder:  # have their own
                item.add_marker(SKIP_LONG)

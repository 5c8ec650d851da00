"""Fleets with a real router in front of them, for jobs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import pytest

from tests.harness.ports import free_port
from tests.harness.router import Router
from tests.harness.tallied_node import TalliedNode, write_inventory


@pytest.fixture
def start(tmp_path):
    """Start a router over played nodes, with settings; all are gone after the test."""
    with contextlib.ExitStack() as stack:

        def started(nodes: Sequence[TalliedNode], **settings: str) -> Router:
            for node in nodes:
                stack.callback(node.__exit__)
            inventory = write_inventory(tmp_path / "nodes.yml", nodes)
            made = Router(
                tmp_path, inventory, prometheus_port=free_port(), settings=settings
            )
            stack.callback(made.stop)
            return made.wait_ready()

        yield started

"""docker-compose.yml, parsed."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.harness.process import ROOT

Service = dict[str, Any]


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


@pytest.fixture(scope="session")
def services(compose) -> dict[str, Service]:
    return compose["services"]

"""A series as the parts of the GPU exporter hand it on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

NO_LABELS: Mapping[str, str] = MappingProxyType({})


class Row(NamedTuple):
    """One series and its value; the card's own labels are added later."""

    name: str
    value: float
    labels: Mapping[str, str] = NO_LABELS

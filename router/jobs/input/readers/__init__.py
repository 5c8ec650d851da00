"""Datasets that people upload, read row by row in bounded memory.

Blocking, and as slow as a hostile file makes it: for a process of its own
(`router.jobs.input.sandbox`). A row that cannot be used is a `BadRow` and its
neighbours go on; a file that cannot be used raises DatasetError, also after rows
have come.
"""

from __future__ import annotations

from router.jobs.input.readers.dataset import (
    Dataset,
    DatasetSample,
    format_of,
    open_dataset,
)
from router.jobs.input.readers.rows import (
    NOWHERE,
    BadRow,
    ReadLimits,
    Row,
    Unusable,
)

__all__ = [
    "NOWHERE",
    "BadRow",
    "Dataset",
    "DatasetSample",
    "ReadLimits",
    "Row",
    "Unusable",
    "format_of",
    "open_dataset",
]

"""Every error of the exporter that crosses a module's edge.

ExporterError
├── SettingError        a flag or a file given by a flag is wrong
├── CollectError        a collector could not read its source: serve nothing of it
│   └── PartialError        what it has yielded so far holds and is served
└── BackendError        one call to a backend's API
    ├── NoAnswerError       refused, reset, or not within the deadline
    └── BadAnswerError      answered, but not what its API says
"""

from __future__ import annotations


class ExporterError(Exception):
    """The root."""


class SettingError(ExporterError):
    """A flag, or a file named by a flag, was rejected."""


class CollectError(ExporterError):
    """The source could not be read; nothing that was yielded is served."""


class PartialError(CollectError):
    """The source could be read in part; what was yielded is served."""


class BackendError(ExporterError):
    """A call to a backend's API gave no usable reply."""


class NoAnswerError(BackendError):
    """Refused, reset, or no full reply within the deadline."""


class BadAnswerError(BackendError):
    """A reply that the API does not allow."""

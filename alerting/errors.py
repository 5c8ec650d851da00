"""What can be wrong with what the alerting's files are made from."""

from __future__ import annotations


class RenderError(Exception):
    """The text is `file: path: what, got value`, and never shows a secret."""


class ObjectivesError(Exception):
    """The text is `file: path: what, got value`, one line for each fault."""

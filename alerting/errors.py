"""What can be wrong with the settings that alertmanager.yml is rendered from."""

from __future__ import annotations


class RenderError(Exception):
    """The text is `file: path: what, got value`, and never shows a secret."""

"""What may keep the product from running, told to the person at the terminal."""

from __future__ import annotations


class LaunchError(Exception):
    """The message says what is wrong, and what to do about it."""

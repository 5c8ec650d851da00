"""Write docs/cli.md from the commands themselves: `python -m router.cli.reference`.

A test fails while the page is not current.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from router.cli.__main__ import app

__all__ = ["PAGE", "page"]

PAGE = "docs/cli.md"
_HEAD = """\
# Command line

Written by `python -m router.cli.reference` from the commands themselves.
`inferops COMMAND --help` prints the same; `inferops completion bash` prints the
completion for a shell. In a checkout the command is `.venv/bin/inferops`.
"""
_WIDTH = 96


def page() -> str:
    """Return the page: every command with its help."""
    parts = [_HEAD]
    for depth, context in _commands(_context(app, "inferops", None)):
        heading = "#" * min(depth + 2, 4)
        help_text = context.command.get_help(context).rstrip()
        parts.append(f"{heading} {context.command_path}\n\n```text\n{help_text}\n```\n")
    return "\n".join(parts)


def _commands(
    context: click.Context, depth: int = 0
) -> Iterator[tuple[int, click.Context]]:
    """Yield a command and all below it, by name, without hidden ones."""
    yield depth, context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            if command is not None and not command.hidden:
                yield from _commands(_context(command, name, context), depth + 1)


def _context(
    command: click.Command, name: str, parent: click.Context | None
) -> click.Context:
    return command.make_context(
        name,
        [],
        parent,
        resilient_parsing=True,
        terminal_width=_WIDTH,
        max_content_width=_WIDTH,
    )


def main() -> None:
    Path(PAGE).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()

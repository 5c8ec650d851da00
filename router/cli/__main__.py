"""`python -m router.cli`, and what `inferops` runs."""

from __future__ import annotations

import contextlib
import os
import sys

import click

from router.cli import audit, discover, jobs, join, keys, local, nodes, usage
from router.cli.app import app
from router.cli.client import CliError
from router.cli.console import Console
from router.cli.outcome import Exit

__all__ = ["app", "main", "run"]

for _group in (local, nodes, join, discover, jobs, keys, usage, audit):
    for _command in _group.COMMANDS:
        app.add_command(_command)


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        return int(
            app.main(arguments, prog_name="inferops", standalone_mode=False) or 0
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except CliError as error:
        Console(json=False, colour=True).complain(str(error))
        return error.exit
    except (click.Abort, KeyboardInterrupt):
        Console(json=False, colour=True).complain("interrupted")
        return Exit.DETACHED
    except BrokenPipeError:  # `| head` has read enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE


def run() -> None:
    """Run as a console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()

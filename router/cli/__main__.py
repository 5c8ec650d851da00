"""`python -m router.cli`, and what `inferops` runs."""

from __future__ import annotations

import contextlib
import os
import sys

from router.cli.arguments import parser
from router.cli.client import Client, CliError
from router.cli.console import Console
from router.cli.outcome import Exit

_HOME = "http://127.0.0.1:8000"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    asked = parser(os.environ.get("INFEROPS_URL", _HOME)).parse_args(arguments)
    console = Console(json=asked.json, colour=not asked.plain)
    try:
        with Client(asked.url) as client:
            return int(asked.run(client, console, asked))
    except CliError as error:
        console.complain(str(error))
        return error.exit
    except KeyboardInterrupt:
        console.complain("interrupted")
        return Exit.DETACHED
    except BrokenPipeError:  # `| head` has seen enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE


if __name__ == "__main__":
    sys.exit(main())

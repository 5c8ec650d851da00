"""The command `inferops`: its groups, and what every command has in common."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from router import __version__
from router.cli.client import Client
from router.cli.console import Console
from router.cli.outcome import Exit
from router.cli.token import found_here

_URL = "http://127.0.0.1:8000"
_KEY = "INFEROPS_API_KEY"


@dataclass(frozen=True, slots=True)
class Session:
    """What a command works with: the router and the terminal."""

    client: Client
    console: Console


def command(function: Callable[..., Exit | None]) -> Callable[..., None]:
    """Give a command --url, --token-file, --json and --plain, and its Session.

    A command that returns None is done.
    """

    @wraps(function)
    def run(
        *, url: str, token_file: Path | None, json: bool, plain: bool, **more: Any
    ) -> None:
        console = Console(json=json, colour=not plain)
        key = os.environ.get(_KEY)
        found = None if key else found_here(url, os.environ)
        with Client(url, token_file or found, key) as client:
            code = function(Session(client, console), **more)
        click.get_current_context().exit(code or Exit.DONE)

    for option in reversed(_COMMON):
        run = option(run)
    return run


_COMMON = (
    click.option(
        "--url",
        envvar="INFEROPS_URL",
        default=_URL,
        show_default=True,
        show_envvar=True,
        help="Base URL of the router.",
    ),
    click.option(
        "--token-file",
        envvar="INFEROPS_TOKEN_FILE",
        show_envvar=True,
        type=click.Path(path_type=Path),
        help="File with an API key or the admin token, found by itself where `make up`"
        f" made it; without: the key in {_KEY}.",
    ),
    click.option("--json", is_flag=True, help="Write JSON, for scripts."),
    click.option("--plain", is_flag=True, help="No colours."),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="inferops")
def app() -> None:
    """One HTTP endpoint for a fleet of unequal Ollama machines."""


@app.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the shell's completion script.

    \b
    bash: eval "$(inferops completion bash)"
    zsh:  eval "$(inferops completion zsh)"
    fish: inferops completion fish | source
    """  # noqa: D301 - click's mark for lines that stay as they are
    os.environ["_INFEROPS_COMPLETE"] = f"{shell}_source"
    app.main(prog_name="inferops", standalone_mode=True)

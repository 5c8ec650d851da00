"""What is written where: data to standard output, everything else to the error output.

The only file that imports rich. Without a terminal progress is a line now and then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import orjson
from rich.console import Console as RichConsole
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from router.cli import words
from router.logs.redaction import plain

_LINE_EVERY_SECONDS = 10.0


class Progress(Protocol):
    """Shows a job's state as it changes."""

    def show(self, state: Mapping[str, Any]) -> None: ...

    def sent(self, done: int, whole: int) -> None: ...


class Console:
    """json: standard output is for programs; errors and progress stay in words."""

    def __init__(self, *, json: bool, colour: bool) -> None:
        self.json = json
        self._errors = RichConsole(
            stderr=True, no_color=not colour, highlight=False, soft_wrap=True
        )

    @property
    def live(self) -> bool:
        """Say whether somebody looks at a terminal."""
        return self._errors.is_terminal and not self._errors.is_dumb_terminal

    def say(self, text: str) -> None:
        self._errors.print(escape(plain(text)))

    def complain(self, text: str) -> None:
        self._errors.print(f"[red]inferops:[/red] {escape(plain(text))}")

    def data(self, content: object) -> None:
        """Write a JSON value on a line of its own."""
        self.raw([orjson.dumps(content) + b"\n"])

    def raw(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()

    def result(self, content: object, words: str) -> None:
        """Write what a command came to: as JSON, or in words."""
        if self.json:
            self.data(content)
        else:
            self.say(words)

    def table(
        self, content: object, names: Sequence[str], rows: Iterable[Sequence[str]]
    ) -> None:
        """Write rows as a table that fits a terminal, and whole lines into a pipe.

        content: what is written instead where JSON is wanted
        """
        if self.json:
            self.data(content)
            return
        out = RichConsole(highlight=False)
        rows = [[plain(cell).replace("\n", " ") for cell in row] for row in rows]
        if not out.is_terminal:
            self.raw("\t".join(row).encode() + b"\n" for row in (names, *rows))
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in names:
            table.add_column(name, no_wrap=name in {"job", "done"})
        for row in rows:
            table.add_row(*map(escape, row))
        out.print(table)

    @contextmanager
    def progress(self, name: str) -> Iterator[Progress]:
        """Show progress while the block runs."""
        if not self.live:
            yield _Lines(self)
            return
        with Live(console=self._errors, refresh_per_second=8, transient=True) as live:
            yield _Bar(live, name)


class _Lines:
    """For logs: one line when the state changes, and each ten seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._state: object = None
        self._told_at = 0.0

    def show(self, state: Mapping[str, Any]) -> None:
        now = time.monotonic()
        key = (state["state"], state["paused"], state["why_idle"])
        if key == self._state and now - self._told_at < _LINE_EVERY_SECONDS:
            return
        self._state, self._told_at = key, now
        self._console.say(words.line(state))

    def sent(self, done: int, whole: int) -> None:
        """An upload is short beside a job: not worth a line."""


class _Bar:
    """For people: a bar, how fast, and where."""

    def __init__(self, live: Live, name: str) -> None:
        self._live = live
        self._name = name

    def show(self, state: Mapping[str, Any]) -> None:
        progress = state["progress"]
        total = progress["items"]["total"]
        done = words.over(progress)
        label = "paused" if state["paused"] else state["state"].replace("_", " ")
        self._draw(
            f"{done:,}/{total:,}",
            label,
            done,
            total,
            [words.pace(progress), words.whereabouts(state)],
        )

    def sent(self, done: int, whole: int) -> None:
        self._draw(f"{done / 1e6:,.1f} MB", "uploading", done, whole, [])

    def _draw(
        self, count: str, label: str, done: int, total: int, below: list[str]
    ) -> None:
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(no_wrap=True, overflow="ellipsis", max_width=28)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True, justify="right")
        grid.add_column(no_wrap=True, style="cyan")
        bar = ProgressBar(total=max(total, 1), completed=done)
        share = f"{done * 100 // max(total, 1)} %"
        grid.add_row(Text(self._name, style="bold"), bar, f"{count} {share}", label)
        lines = [Text(text, style="dim", overflow="fold") for text in below if text]
        self._live.update(Group(grid, *lines))

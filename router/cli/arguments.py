"""The arguments of `inferops`, and which function runs each command."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from router.cli import commands

_EXITS = """\
exit codes: 0 done, every item answered; 1 over, but items failed or the job did;
2 wrong arguments; 3 the router refuses; 4 no router; 130 detached with Ctrl-C"""
_RUN = """\
example:
  inferops batch run reviews.csv --model llama3.2:3b \\
      --template 'Summarise: {{ text }}' --reducer tree --threshold 8
"""
_REDUCERS = ("map", "concat", "stats", "count", "vote", "tree")


def parser(url: str) -> argparse.ArgumentParser:
    """Build the whole of it; `url` is the router's, where --url does not say."""
    whole = argparse.ArgumentParser(
        prog="inferops", description="One endpoint for a fleet of Ollama machines."
    )
    parts = whole.add_subparsers(title="commands", required=True, metavar="COMMAND")
    batch = parts.add_parser(
        "batch",
        help="jobs over datasets",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = batch.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_run(verbs, url)
    _add_ls(verbs, url)
    _add_watch(verbs, url)
    _add_results(verbs, url)
    for name, about in (
        ("cancel", "end jobs; what is done stays readable"),
        ("pause", "start no more items"),
        ("resume", "go on"),
        ("retry", "run the failed items of jobs that are over again"),
        ("rm", "delete jobs that are over, with their results"),
    ):
        verb = _verb(verbs, name, about, url)
        verb.add_argument("jobs", nargs="+", metavar="JOB")
        verb.set_defaults(run=commands.change, verb=name)
    return whole


def _verb(verbs: Any, name: str, about: str, url: str) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=about,
        description=about[0].upper() + about[1:] + ".",
        epilog=(_RUN if name == "run" else "") + _EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument(
        "--url",
        default=url,
        help="the router's address (%(default)s); INFEROPS_URL sets it for all",
    )
    verb.add_argument("--json", action="store_true", help="write JSON, for scripts")
    verb.add_argument("--plain", action="store_true", help="no colours")
    return verb


def _add_run(verbs: Any, url: str) -> None:
    run = _verb(verbs, "run", "start a job over a dataset, and watch it", url)
    run.add_argument("file", type=Path, help="CSV, JSON, JSONL or Parquet")
    run.add_argument("--model", required=True)
    run.add_argument(
        "--template",
        required=True,
        help="the prompt over the columns; @FILE reads it from a file",
    )
    run.add_argument("--system", help="system prompt; @FILE reads it from a file")
    run.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of Ollama's, such as temperature=0; may be given again",
    )
    run.add_argument("--reducer", choices=_REDUCERS, help="how results come together")
    run.add_argument(
        "--threshold", type=int, help="tree: texts that are merged at once"
    )
    run.add_argument("--samples", type=int, help="vote: answers for each row")
    run.add_argument(
        "--field", help="stats, count, vote: the field of the answer's JSON"
    )
    run.add_argument("--separator", help="concat: what stands between two answers")
    run.add_argument("--merge-prompt", help="tree: how to merge; @FILE reads a file")
    run.add_argument("--format", choices=("csv", "json", "jsonl", "parquet"))
    run.add_argument("--name", help="the job's name in lists")
    run.add_argument("--bad-lines", choices=("fail_line", "fail_job"))
    run.add_argument("--give-way", choices=("item", "at_once"))
    run.add_argument("--attempts", type=int, help="tries of an item")
    run.add_argument("--window", metavar="HH:MM-HH:MM", help="only at this time of day")
    run.add_argument("--zone", help="of the window, such as Europe/Berlin")
    run.add_argument("--nodes", type=int, help="most nodes at one time")
    run.add_argument("--completion-window", metavar="24h", help="then the job expires")
    run.add_argument("--detach", action="store_true", help="start it, and do not watch")
    run.add_argument(
        "--output", type=Path, help="write the end product there when it is done"
    )
    run.add_argument(
        "--preview", action="store_true", help="show columns and prompts; start nothing"
    )
    run.set_defaults(run=commands.run)


def _add_ls(verbs: Any, url: str) -> None:
    listed = _verb(verbs, "ls", "list jobs, the newest first", url)
    listed.add_argument("--state", help="only jobs in this state, such as in_progress")
    listed.add_argument("--limit", type=int, default=20)
    listed.set_defaults(run=commands.ls)


def _add_watch(verbs: Any, url: str) -> None:
    watch = _verb(verbs, "watch", "follow a job to its end", url)
    watch.add_argument("job")
    watch.set_defaults(run=commands.watch)


def _add_results(verbs: Any, url: str) -> None:
    results = _verb(
        verbs, "results", "write what a job gave: results as JSON, a line each", url
    )
    results.add_argument("job")
    what = results.add_mutually_exclusive_group()
    what.add_argument(
        "--failed", action="store_true", help="only the items without an answer"
    )
    what.add_argument(
        "--product", action="store_true", help="the reducer's end product; when over"
    )
    what.add_argument(
        "--partial", action="store_true", help="what the reducer has now, as JSON"
    )
    results.add_argument("--output", type=Path, help="into this file")
    results.set_defaults(run=commands.results)

"""`inferops jobs`: jobs over datasets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from router.cli import words
from router.cli.app import Session, command
from router.cli.client import CliError
from router.cli.outcome import OVER, Exit, exit_of
from router.cli.terms import fields_of
from router.cli.watching import Detached, Time, follow

_EXITS = """\
Exit codes: 0 done, every item answered; 1 over, but items failed or the job did;
2 wrong arguments; 3 the router refuses; 4 no router; 130 detached with Ctrl-C."""
_READING = ("format", "encoding", "delimiter", "header")
_RUN = """\
\b
Example:
  inferops jobs run reviews.csv --model llama3.2:3b \\
      --template 'Summarise: {{ text }}' --reducer tree --threshold 8
"""


@click.group(epilog=_EXITS)
def jobs() -> None:
    """Run a prompt over each row of a dataset."""


@click.group(hidden=True, deprecated="use `inferops jobs`")
def batch() -> None:
    """Run `inferops jobs` under its old name."""


@jobs.command(epilog=f"{_RUN}\n{_EXITS}")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--model", required=True)
@click.option(
    "--template",
    required=True,
    help="Prompt over the columns; @FILE reads it from a file.",
)
@click.option("--system", help="System prompt; @FILE reads it from a file.")
@click.option(
    "--option",
    multiple=True,
    metavar="NAME=VALUE",
    help="Option of Ollama's, such as temperature=0; repeatable.",
)
@click.option("--reducer", help="How results are combined: map, concat, tree ...")
@click.option("--threshold", type=int, help="tree: texts merged at once.")
@click.option("--samples", type=int, help="vote: answers for each row.")
@click.option("--field", help="stats, count, vote: field of the answer's JSON.")
@click.option("--separator", help="concat: text between two answers.")
@click.option("--merge-prompt", help="tree: how to merge; @FILE reads a file.")
@click.option("--format", help="Format of the file, where its name does not say.")
@click.option("--encoding", help="Of a text file, such as cp1252 or shift_jis.")
@click.option("--delimiter", help="Of a CSV file: one character, or tab.")
@click.option(
    "--header/--no-header",
    default=None,
    help="Whether a CSV file begins with a line of names.",
)
@click.option("--name", help="Name of the job in lists.")
@click.option("--bad-lines", help="fail_line or fail_job.")
@click.option(
    "--preemption",
    "--give-way",
    "preemption",
    help="When an interactive request needs the node: immediate or after_item.",
)
@click.option("--attempts", type=int, help="Attempts of an item.")
@click.option(
    "--window",
    metavar="TIMES",
    help="Only then, such as 20:00-6:00, or 'Mon-Fri 20:00-6:00, Sat, Sun'.",
)
@click.option("--zone", help="Time zone of the window, such as Europe/Berlin.")
@click.option("--nodes", type=int, help="Most nodes at one time.")
@click.option("--completion-window", metavar="24h", help="Then the job expires.")
@click.option("--detach", is_flag=True, help="Start the job and return.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Write the end product there when the job is done.",
)
@click.option(
    "--preview", is_flag=True, help="Show columns and prompts; start nothing."
)
@command
def run(session: Session, file: Path, **given: Any) -> Exit:
    """Start a job over FILE (CSV, JSON, JSONL, Parquet; .gz, .zst) and watch it."""
    client, console = session.client, session.console
    fields = fields_of(given)
    if given["preview"]:
        named = {name: given[name] for name in _READING if given[name] is not None}
        return _preview(session, file, {"template": fields["template"]} | named)
    with console.progress(given["name"] or file.name) as progress:
        job = client.send(fields, file, progress.sent)
    console.say(f"job {job['id']} over {file.name} started")
    if given["detach"]:
        if console.json:
            console.data(job)
        else:
            console.raw([f"{job['id']}\n".encode()])
        return Exit.DONE
    ended, code = _watched(session, job["id"])
    if ended is not None and given["output"]:
        _save(client.stream(f"/v1/jobs/{job['id']}/output"), given["output"])
        console.say(f"the end product is in {given['output']}")
    elif ended is not None and not console.json:
        console.say(f"its results: inferops jobs results {job['id']}")
        if ended["reducer"].get("kind", "map") != "map":
            console.say(f"its end product: inferops jobs results {job['id']} --product")
    return code


def _preview(session: Session, path: Path, wanted: dict[str, Any]) -> Exit:
    """Upload the file, show what the router reads in it, and delete it again."""
    client, console = session.client, session.console
    with console.progress(path.name) as progress:
        file = client.send({"purpose": "dataset"}, path, progress.sent, "/v1/files")
    try:
        shown = client.post("/v1/jobs/preview", {"file_id": str(file["id"])} | wanted)
    finally:
        client.delete(f"/v1/files/{file['id']}")
    if console.json:
        console.data(shown)
        return Exit.DONE
    console.say(words.reading(shown))
    for number, prompt in enumerate(shown["prompts"][:3], start=1):
        console.say(f"--- prompt {number}\n{prompt}")
    for fault in shown["faults"]:
        console.say(f"line {fault['line']}: {fault['message']}")
    return Exit.DONE


@jobs.command(epilog=_EXITS)
@click.argument("job")
@command
def watch(session: Session, job: str) -> Exit:
    """Follow JOB to its end."""
    return _watched(session, job)[1]


def _watched(session: Session, job: str) -> tuple[dict[str, Any] | None, Exit]:
    """Follow a job to its end; Ctrl-C ends this command only."""
    console = session.console
    try:
        ended = follow(session.client, console, job, Time())
    except Detached:
        console.say(
            f"detached; the job goes on. To see it again: inferops jobs watch {job}"
            f"\nTo end it: inferops jobs cancel {job}"
        )
        return None, Exit.DETACHED
    console.say(words.ending(ended))
    return ended, exit_of(ended)


@jobs.command("list")
@click.option("--state", help="Only jobs in this state, such as in_progress.")
@click.option("--limit", type=int, default=20, show_default=True)
@command
def list_(session: Session, state: str | None, limit: int) -> None:
    """List jobs, the newest first."""
    query: dict[str, str | int] = {"limit": limit}
    if state:
        query["state"] = state
    found = session.client.get("/v1/jobs", **query)
    names = ("job", "state", "done", "failed", "ETA", "model", "name")
    session.console.table(found, names, map(_row, found["data"]))


def _row(job: dict[str, Any]) -> list[str]:
    progress = job["progress"]
    items = progress["items"]
    return [
        job["id"],
        words.state_of(job),
        f"{words.over(progress)}/{items['total']}",
        str(items["failed"]),
        "" if job["state"] in OVER else words.span(progress["eta_seconds"]),
        job["model"],
        job["name"],
    ]


def _change(verb: str, about: str) -> click.Command:
    """Make a command that does one thing to several jobs; the first refusal ends it."""

    @command
    def change(session: Session, jobs: tuple[str, ...]) -> None:
        for job in jobs:
            if verb == "rm":
                answer = session.client.delete(f"/v1/jobs/{job}")
            else:
                answer = session.client.post(f"/v1/jobs/{job}/{verb}")
            session.console.result(answer, _changed(verb, answer))

    many = click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
    return click.command(verb, help=about)(many(change))


def _changed(verb: str, answer: dict[str, Any]) -> str:
    if verb == "rm":
        return f"{answer['id']} deleted"
    return f"{answer['id']} {words.state_of(answer)}"


@jobs.command()
@click.argument("job")
@click.option("--failed", is_flag=True, help="Only items without an answer.")
@click.option("--product", is_flag=True, help="The reducer's end product; when over.")
@click.option("--partial", is_flag=True, help="What the reducer has now, as JSON.")
@click.option("--output", type=click.Path(path_type=Path), help="Write to this file.")
@command
def results(
    session: Session,
    job: str,
    *,
    failed: bool,
    product: bool,
    partial: bool,
    output: Path | None,
) -> None:
    """Write the results of JOB, one JSON object a line."""
    if failed + product + partial > 1:
        raise click.UsageError("--failed, --product and --partial exclude each other")
    path = f"/v1/jobs/{job}"
    query = {"failed": "true"} if failed else {}
    what = "output" if product else "partial" if partial else "results"
    pieces = session.client.stream(f"{path}/{what}", **query)
    if output:
        _save(pieces, output)
    else:
        session.console.raw(pieces)


def _save(pieces: Iterable[bytes], path: Path) -> None:
    """Write the complete file or none."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.writelines(pieces)
        part.replace(path)
    except OSError as error:
        text = f"cannot write {str(path)!r}: {error.strerror}"
        raise CliError(text, Exit.USAGE) from error
    finally:
        part.unlink(missing_ok=True)


for _verb, _about in (
    ("cancel", "End jobs; what is done stays readable."),
    ("pause", "Start no more items of jobs."),
    ("resume", "Go on with paused jobs."),
    ("retry", "Run the failed items of jobs that are over again."),
    ("rm", "Delete jobs that are over, with their results."),
):
    jobs.add_command(_change(_verb, _about))
for _name, _command in jobs.commands.items():
    batch.add_command(_command, "ls" if _name == "list" else _name)

COMMANDS = (jobs, batch)

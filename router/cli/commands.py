"""What each command of `inferops batch` does."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from router.cli import words
from router.cli.client import Client, CliError
from router.cli.console import Console
from router.cli.outcome import OVER, Exit, exit_of
from router.cli.terms import fields_of
from router.cli.watching import Detached, Time, follow


def run(client: Client, console: Console, asked: argparse.Namespace) -> Exit:
    """Start a job; watch it unless that is not wanted."""
    if asked.preview:
        return _preview(client, console, asked)
    with console.progress(asked.name or asked.file.name) as progress:
        job = client.send(fields_of(asked), asked.file, progress.sent)
    console.say(f"job {job['id']} over {asked.file.name} is started")
    if asked.detach:
        if console.json:
            console.data(job)
        else:
            console.raw([f"{job['id']}\n".encode()])
        return Exit.DONE
    ended, code = _watched(client, console, job["id"])
    if ended is not None and asked.output:
        _save(client.stream(f"/batches/{job['id']}/output"), asked.output)
        console.say(f"the end product is in {asked.output}")
    elif ended is not None and not console.json:
        console.say(f"its results: inferops batch results {job['id']}")
    return code


def _preview(client: Client, console: Console, asked: argparse.Namespace) -> Exit:
    """Upload, look and take the file back."""
    fields = fields_of(asked)
    with console.progress(asked.file.name) as progress:
        file = client.send(
            {"purpose": "dataset"}, asked.file, progress.sent, "/v1/files"
        )
    try:
        wanted = {"file_id": str(file["id"]), "template": fields["template"]}
        if asked.format:
            wanted["format"] = asked.format
        shown = client.post("/batches/preview", wanted)
    finally:
        client.delete(f"/v1/files/{file['id']}")
    if console.json:
        console.data(shown)
        return Exit.DONE
    console.say(f"{shown['format']}, columns: {', '.join(shown['columns'])}")
    for number, prompt in enumerate(shown["prompts"][:3], start=1):
        console.say(f"--- prompt {number}\n{prompt}")
    for fault in shown["faults"]:
        console.say(f"line {fault['line']}: {fault['message']}")
    return Exit.DONE


def watch(client: Client, console: Console, asked: argparse.Namespace) -> Exit:
    return _watched(client, console, asked.job)[1]


def _watched(
    client: Client, console: Console, job: str
) -> tuple[dict[str, Any] | None, Exit]:
    """Follow a job to its end; with Ctrl-C only this command ends."""
    try:
        ended = follow(client, console, job, Time())
    except Detached:
        console.say(
            f"detached; the job goes on. To see it again: inferops batch watch {job}"
            f"\nTo end it: inferops batch cancel {job}"
        )
        return None, Exit.DETACHED
    console.say(words.ending(ended))
    return ended, exit_of(ended)


def ls(client: Client, console: Console, asked: argparse.Namespace) -> Exit:
    query: dict[str, str | int] = {"limit": asked.limit}
    if asked.state:
        query["state"] = asked.state
    found = client.get("/batches", **query)
    if console.json:
        console.data(found)
        return Exit.DONE
    names = ("job", "state", "done", "failed", "ETA", "model", "name")
    console.table(names, [_row(job) for job in found["data"]])
    return Exit.DONE


def _row(job: dict[str, Any]) -> list[str]:
    progress = job["progress"]
    items = progress["items"]
    return [
        job["id"],
        "paused" if job["paused"] and job["state"] not in OVER else job["state"],
        f"{words.over(progress)}/{items['total']}",
        str(items["failed"]),
        "" if job["state"] in OVER else words.span(progress["eta_seconds"]),
        job["model"],
        job["name"],
    ]


def change(client: Client, console: Console, asked: argparse.Namespace) -> Exit:
    """Do one thing to several jobs; the first refusal ends it."""
    for job in asked.jobs:
        if asked.verb == "rm":
            answer = client.delete(f"/batches/{job}")
        else:
            answer = client.post(f"/batches/{job}/{asked.verb}")
        if console.json:
            console.data(answer)
        else:
            console.say(_changed(asked.verb, answer))
    return Exit.DONE


def _changed(verb: str, answer: dict[str, Any]) -> str:
    if verb == "rm":
        return f"{answer['id']} deleted"
    paused = answer["paused"] and answer["state"] not in OVER
    return f"{answer['id']} {'paused' if paused else answer['state']}"


def results(client: Client, console: Console, asked: argparse.Namespace) -> Exit:
    path = f"/batches/{asked.job}"
    if asked.product:
        pieces = client.stream(f"{path}/output")
    elif asked.partial:
        pieces = client.stream(f"{path}/partial")
    elif asked.failed:
        pieces = client.stream(f"{path}/results", failed="true")
    else:
        pieces = client.stream(f"{path}/results")
    if asked.output:
        _save(pieces, asked.output)
    else:
        console.raw(pieces)
    return Exit.DONE


def _save(pieces: Iterable[bytes], path: Path) -> None:
    """Write a file that is whole, or not there."""
    draft = path.with_name(f".{path.name}.part")
    try:
        with draft.open("wb") as file:
            file.writelines(pieces)
        draft.replace(path)
    except OSError as error:
        text = f"{str(path)!r} cannot be written: {error.strerror}"
        raise CliError(text, Exit.USAGE) from error
    finally:
        draft.unlink(missing_ok=True)

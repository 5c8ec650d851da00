"""A job's terms as JSON, for the database and the sandbox."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import orjson

from router.jobs.model import BadLines, Format, JobSpec, Preemption, Span, TimeWindow


def spec_text(spec: JobSpec) -> str:
    """Return the terms as JSON, which `read_spec` takes back."""
    return orjson.dumps(asdict(spec)).decode()


def read_spec(text: str) -> JobSpec:
    fields = orjson.loads(text)
    if "give_way" in fields:  # of a release before 0.2
        fields["preemption"] = fields.pop("give_way")
    return JobSpec(
        **{
            **fields,
            "format": Format(fields["format"]),
            "bad_lines": BadLines(fields["bad_lines"]),
            "preemption": Preemption(fields["preemption"]),
            "window": _window(fields["window"]),
            "models": tuple(fields.get("models", ())),
        }
    )


def _window(found: dict[str, Any] | None) -> TimeWindow | None:
    if found is None:
        return None
    if "start" in found:  # of a release before there were days
        every_day = tuple(range(7))
        return TimeWindow(
            (Span(every_day, found["start"], found["end"]),), found["zone"]
        )
    spans = (
        Span(tuple(each["days"]), each["start"], each["end"]) for each in found["spans"]
    )
    return TimeWindow(tuple(spans), found["zone"])

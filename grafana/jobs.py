"""The dashboard "Jobs": how far batch work is, what it costs, and what holds it up."""

from __future__ import annotations

from grafana import promql
from grafana.board import Board
from grafana.grid import Band, Section
from grafana.panels import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    Field,
    Json,
    Query,
    stat,
    timeseries,
)

OPEN = 'state=~"validating|in_progress|finalizing|cancelling"'
ENDED = "inferops_job_items_ended_total"
ROW, MERGE = 'kind="row"', 'kind="merge"'


def jobs() -> Board:
    return Board(
        "jobs",
        "Jobs",
        "Batch jobs over datasets, in what people leave idle.",
        (_now(), _course(), _costs(), _database()),
    )


def _now() -> Section:
    return Section(
        "Now",
        Band(
            4, _open_jobs(), _items_done(), _eta(), _lag(), _dead_letters(), _store_up()
        ),
    )


def _open_jobs() -> Json:
    return stat(
        "Open jobs",
        "Jobs that are not over; a paused one counts.",
        [Query(f"sum(inferops_jobs{{{OPEN}}})")],
        Field("short", 0, steps=((0, GREEN), (1, BLUE))),
    )


def _items_done() -> Json:
    done = f'sum(increase({ENDED}{{{ROW}, state="done"}}[$__rate_interval]))'
    return stat(
        "Items done in an hour",
        "Rows that got their answer in the last hour.",
        [Query(promql.or_zero(done), min_step="1h")],
        Field("short", 0),
    )


def _eta() -> Json:
    return stat(
        "Time left",
        "Of the open job that lasts longest, at its rate of the last minute. "
        "Empty: nothing runs, or it began just now.",
        [Query("max(inferops_job_eta_seconds)")],
        Field("s", 0, empty="-"),
    )


def _lag() -> Json:
    return stat(
        "Oldest open job",
        "How long it has been waited for. People come first: under load a job waits.",
        [Query("max(inferops_job_oldest_seconds)")],
        Field("s", 0, steps=((0, GREEN), (86_400, ORANGE))),
    )


def _dead_letters() -> Json:
    failed = f'sum(increase({ENDED}{{state="failed"}}[$__rate_interval]))'
    return stat(
        "Items failed in an hour",
        "Bad lines, and items whose attempts are used up, in the last hour. "
        "`inferops jobs results JOB --failed` names each.",
        [Query(promql.or_zero(failed), min_step="1h")],
        Field("short", 0, steps=((0, GREEN), (1, ORANGE))),
    )


def _store_up() -> Json:
    return stat(
        "Job database",
        "Whether the last call to it worked. While it is down nothing new is taken, "
        "and what is in flight is repeated.",
        [Query("min(inferops_job_store_up)")],
        Field("none", words={0: ("down", RED), 1: ("up", GREEN)}),
    )


def _course() -> Section:
    return Section(
        "Course",
        Band(8, _rate(), _waiting(), _times()),
        Band(8, _merges(), _troubles()),
    )


def _rate() -> Json:
    by_state = promql.rate(ENDED, ROW, by="state")
    return timeseries(
        "Items a second",
        "Rows by how they ended. It falls while people use the fleet; that is meant.",
        [Query(promql.or_zero(by_state, "state"), "{{state}}")],
        Field("short", 2, low=0),
    )


def _waiting() -> Json:
    return timeseries(
        "Items waiting and running",
        "Of open jobs, merges among them. Running ones hold a slot each.",
        [
            Query("sum by (state) (inferops_job_items)", "{{state}}"),
            Query("max(inferops_job_nodes)", "nodes at work"),
        ],
        Field("short", 0, low=0),
    )


def _times() -> Json:
    return timeseries(
        "Time left and lag",
        "The first should fall as fast as time goes by.",
        [
            Query("max(inferops_job_eta_seconds)", "time left"),
            Query("max(inferops_job_oldest_seconds)", "oldest open job"),
            Query("max(inferops_job_stalled_seconds)", "standing still"),
        ],
        Field("s", 0, low=0),
    )


def _merges() -> Json:
    by_state = promql.rate(ENDED, MERGE, by="state")
    return timeseries(
        "Merges a second",
        "Of the reducer `tree`. They begin long before the last row is done.",
        [Query(promql.or_zero(by_state, "state"), "{{state}}")],
        Field("short", 2, low=0),
    )


def _troubles() -> Json:
    attempts = promql.rate(
        "inferops_job_attempts_total", 'outcome!="answered"', by="outcome"
    )
    retries = promql.rate("inferops_job_retries_total")
    copies = promql.rate("inferops_job_copies_total")
    continued = promql.rate("inferops_job_continued_total")
    return timeseries(
        "Retries, copies, attempts without an answer",
        "Per second. `revoked`: taken back for people, `continued`: went on from the "
        "text of one of those; `lost`: the slower of two copies at a job's end.",
        [
            Query(promql.or_zero(retries), "retries"),
            Query(promql.or_zero(copies), "copies"),
            Query(promql.or_zero(continued), "continued"),
            Query(promql.or_zero(attempts, "outcome"), "{{outcome}}"),
        ],
        Field("reqps", 2, low=0),
    )


def _costs() -> Section:
    by_kind = promql.rate("inferops_job_tokens_total", by="kind")
    wasted = promql.rate("inferops_job_wasted_tokens_total")
    reread = promql.rate("inferops_job_reread_tokens_total")
    return Section(
        "Costs",
        Band(
            8,
            timeseries(
                "Tokens a second",
                "Read and generated for jobs; wasted: generated, but in no "
                "result; once more: prompts and texts given to a node again.",
                [
                    Query(promql.or_zero(by_kind, "kind"), "{{kind}}"),
                    Query(promql.or_zero(wasted), "wasted"),
                    Query(promql.or_zero(reread), "once more"),
                ],
                Field("short", 1, low=0),
            ),
            timeseries(
                "Item duration",
                "One answered attempt. A gap: none was answered.",
                promql.percentiles("inferops_job_item_duration_seconds", 0.5, 0.95),
                Field("s", 2, low=0),
            ),
        ),
    )


def _database() -> Section:
    commit = "inferops_job_store_commit_seconds"
    calls = promql.rate("inferops_job_store_calls_total")
    commits = promql.rate(f"{commit}_count")
    return Section(
        "Job database",
        Band(
            7,
            timeseries(
                "Commit duration",
                "One batched commit: what a result waits for. The event loop "
                "never does.",
                promql.percentiles(commit, 0.5, 0.99),
                Field("s", 4, low=0),
            ),
            timeseries(
                "Calls in one commit",
                "The busier the database, the more calls share a commit.",
                [Query(f"{calls}\n/\n({commits} > 0)", "calls")],
                Field("short", 1, low=0),
            ),
            timeseries(
                "Kept on the disk",
                "Jobs with their results, and uploaded files. Both go when "
                "their time is over: `jobs.retention_seconds`.",
                [Query("sum by (what) (inferops_job_kept_bytes)", "{{what}}")],
                Field("bytes", 1, low=0),
            ),
        ),
    )

"""The table of jobs: create, list, and change state."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import orjson
from sqlalchemy import (
    Connection,
    and_,
    delete,
    func,
    or_,
    select,
    tuple_,
    update,
)

from router.errors import ConflictError, NotFoundError
from router.jobs.model import ItemFault, Job, JobSpec, JobState, ResultPage, Tallies
from router.jobs.spec import read_spec, spec_text
from router.jobs.store.encoding import dumped, read_job
from router.jobs.store.items import counts as count_items
from router.jobs.store.items import drop as drop_items
from router.jobs.store.paging import Seen, paged
from router.jobs.store.results import tokens as count_tokens
from router.jobs.store.tables import FILES, JOBS, OPEN, OVER

MOST_FAULTS = 20
# A page of all jobs begins after this time and id.
Place = tuple[float, str]
FIRST: Place = (float("-inf"), "")

_DELETING = "deleting"  # among the marks: cannot be undone
_PAGE = 500
# A page ends early if templates are long: it is held in memory.
_PAGE_BYTES = 1024 * 1024
# A job is parked after so many starts without progress.
MOST_STARTS = 3

# The column `reduced` is large and read on its own, as are specs that are not known.
_JOB = [column for column in JOBS.c if column.name != "reduced"]
_STATE = [column for column in _JOB if column.name != "spec"]


def add(connection: Connection, job: Job, owner: str, until: float) -> None:
    connection.execute(
        JOBS.insert().values(
            id=job.id,
            openai=job.openai,
            spec=spec_text(job.spec),
            state=job.state.value,
            paused=job.paused,
            created=job.created,
            rows=job.rows,
            rows_read=0,
            marks=dumped(dict(job.marks)),
            faults="[]",
            tallies=dumped(asdict(job.tallies)),
            owner=owner,
            owned_until=until,
            account=job.account,
            principal=job.principal,
        )
    )


def get(connection: Connection, job: str) -> Job:
    """Raises NotFoundError."""
    row = connection.execute(select(*_JOB).where(JOBS.c.id == job)).one_or_none()
    if row is None:
        raise NotFoundError(f"no job {job!r}")
    return read_job(row)


def account_of(connection: Connection, job: str) -> str:
    """Raises NotFoundError."""
    query = select(JOBS.c.account).where(JOBS.c.id == job)
    account: str | None = connection.execute(query).scalar_one_or_none()
    if account is None:
        raise NotFoundError(f"no job {job!r}")
    return account


def reduced(connection: Connection, job: str) -> Mapping[str, Any]:
    """Return the end product of the job's reducer: `value` and `covers`."""
    query = select(JOBS.c.reduced).where(JOBS.c.id == job)
    text = connection.execute(query).scalar_one_or_none()
    found = orjson.loads(text) if text else None
    return found if isinstance(found, dict) else {}


def listed(
    connection: Connection,
    page: ResultPage,
    states: Collection[JobState] = (),
    *,
    openai_only: bool = False,
    account: str | None = None,
) -> tuple[list[Job], bool]:
    """Return a page, and whether more follow. Raises NotFoundError for `after`.

    account: of this owner; None: of all
    """
    query = select(*_JOB)
    if states:
        query = query.where(JOBS.c.state.in_([state.value for state in states]))
    if openai_only:
        query = query.where(JOBS.c.openai)
    seen = Seen(account, (lambda row: len(row.spec), _PAGE_BYTES))
    rows, more = paged(connection, query, JOBS, page, seen)
    return [read_job(row) for row in rows], more


def still_open(
    connection: Connection, known: Mapping[str, JobSpec] | None = None
) -> list[Job]:
    """Return every open job, oldest first.

    known: terms by job that need not be read again
    """
    query = select(*_STATE).where(JOBS.c.state.in_(OPEN))
    rows = connection.execute(query.order_by(JOBS.c.created, JOBS.c.id)).all()
    specs = dict(known or {})
    for row in rows:
        if row.id not in specs:
            found = select(JOBS.c.spec).where(JOBS.c.id == row.id)
            specs[row.id] = read_spec(connection.execute(found).scalar_one())
    return [read_job(row, specs[row.id]) for row in rows]


def count_open(connection: Connection) -> int:
    query = select(func.count()).select_from(JOBS).where(JOBS.c.state.in_(OPEN))
    return int(connection.execute(query).scalar_one())


def by_state(connection: Connection) -> dict[str, int]:
    query = select(JOBS.c.state, func.count()).group_by(JOBS.c.state)
    return {row[0]: row[1] for row in connection.execute(query)}


def advance(
    connection: Connection,
    job: str,
    before: Collection[JobState],
    after: JobState,
    now: float,
    **columns: Any,
) -> bool:
    """Move a job to the state `after` if it is in one of `before`; return whether.

    With a final state, its counts are stored.
    """
    row = connection.execute(
        select(JOBS.c.state, JOBS.c.marks).where(JOBS.c.id == job).with_for_update()
    ).one_or_none()
    if row is None or row.state not in {state.value for state in before}:
        return False
    marks = {**orjson.loads(row.marks), after.value: now}
    if after.over:
        counts = [asdict(each) for each in count_items(connection, job)]
        columns["counts"] = dumped([*counts, count_tokens(connection, job)])
    _change(connection, job, state=after.value, marks=dumped(marks), **columns)
    return True


def _change(connection: Connection, job: str, **columns: Any) -> None:
    connection.execute(update(JOBS).where(JOBS.c.id == job).values(**columns))


def reopen(connection: Connection, job: str, now: float, spec: str) -> None:
    """Reopen a job that is over; it has been running since `now`."""
    _change(
        connection,
        job,
        state=JobState.IN_PROGRESS.value,
        counts=None,
        reduced=None,
        spec=spec,
        marks=dumped({JobState.IN_PROGRESS.value: now}),
    )
    connection.execute(delete(FILES).where(FILES.c.job == job))


def pause(connection: Connection, job: str, *, paused: bool) -> None:
    """Pause a job, or resume it, also if it was parked."""
    reset = {} if paused else {"parked": None, "starts": 0}
    _change(connection, job, paused=paused, **reset)


def begin(connection: Connection, job: str) -> str | None:
    """Note that work on a job starts; park it if earlier starts made no progress.

    Returns why it is parked; None if work may start. Progress (`advanced`) and an
    orderly end (`disown`) reset the number of starts; the death of a router does not.
    """
    query = select(JOBS.c.starts, JOBS.c.parked).where(JOBS.c.id == job)
    row = connection.execute(query.with_for_update()).one_or_none()
    if row is None or row.parked:
        return row.parked if row else None
    if row.starts < MOST_STARTS:
        _change(connection, job, starts=row.starts + 1)
        return None
    why = (
        f"the router died {row.starts} times in a row while it ran this job, which got"
        " no further"
    )
    _change(connection, job, paused=True, parked=why)
    return why


def advanced(connection: Connection, job: str) -> None:
    """Note progress since work on the job started."""
    _change(connection, job, starts=0)


def note_rows(
    connection: Connection,
    job: str,
    rows_read: int,
    faults: Iterable[ItemFault],
    *,
    before: bool = False,
) -> None:
    """Note how many rows are read, and the first faults of the file.

    before: whether these faults precede the known ones
    """
    found = [asdict(fault) for fault in faults]
    values: dict[str, Any] = {"rows_read": rows_read, "starts": 0}
    if found:
        query = select(JOBS.c.faults).where(JOBS.c.id == job)
        known = orjson.loads(connection.execute(query).scalar_one())
        both = [*found, *known] if before else [*known, *found]
        values["faults"] = dumped(both[:MOST_FAULTS])
    _change(connection, job, **values)


def note_reading(connection: Connection, job: str, notes: Sequence[str]) -> None:
    """Store what was guessed about the file or left out of it."""
    _change(connection, job, notes=dumped(list(notes)))


def add_tallies(connection: Connection, job: str, more: Tallies) -> None:
    query = select(JOBS.c.tallies).where(JOBS.c.id == job).with_for_update()
    text = connection.execute(query).scalar_one_or_none()
    if text is None:
        return
    sums = dumped(asdict(Tallies(**orjson.loads(text)) + more))
    _change(connection, job, tallies=sums)


def own(connection: Connection, owner: str, now: float, until: float) -> list[str]:
    """Take over open jobs without an owner; return all of this owner's.

    Ownership is renewed only once a quarter of its time has passed, so that an idle job
    causes few writes.
    """
    soon = until - (until - now) / 4
    free = or_(
        JOBS.c.owner.is_(None),
        JOBS.c.owned_until < now,
        and_(JOBS.c.owner == owner, JOBS.c.owned_until < soon),
    )
    connection.execute(
        update(JOBS)
        .where(JOBS.c.state.in_(OPEN), free)
        .values(owner=owner, owned_until=until)
    )
    query = select(JOBS.c.id).where(JOBS.c.state.in_(OPEN), JOBS.c.owner == owner)
    return list(connection.execute(query).scalars())


def disown(connection: Connection, owner: str | None = None) -> None:
    """Give up the jobs of an owner, or of all owners.

    An owner that is named ends in order, so that the starts of its jobs are reset.
    """
    query = update(JOBS).values(owner=None, owned_until=None)
    if owner is not None:
        query = query.where(JOBS.c.owner == owner).values(starts=0)
    connection.execute(query)


def ended_before(
    connection: Connection, horizon: float, after: Place
) -> tuple[list[str], Place | None]:
    """Return a page's jobs that ended before `horizon`, and the next page's place."""
    query = (
        select(JOBS.c.id, JOBS.c.created, JOBS.c.state, JOBS.c.marks)
        .where(
            JOBS.c.state.in_(OVER),
            JOBS.c.created < horizon,
            tuple_(JOBS.c.created, JOBS.c.id) > tuple_(*after),
        )
        .order_by(JOBS.c.created, JOBS.c.id)
        .limit(_PAGE)
    )
    rows = connection.execute(query).all()
    found = [row.id for row in rows if _ended(row) < horizon]
    more = len(rows) == _PAGE
    return found, (rows[-1].created, rows[-1].id) if more else None


def _ended(row: Any) -> float:
    return float(orjson.loads(row.marks).get(row.state, row.created))


def begin_removal(connection: Connection, job: str, now: float) -> None:
    """Mark a job as being deleted: it cannot be run again.

    Raises NotFoundError, ConflictError if it is not over.
    """
    query = select(JOBS.c.state, JOBS.c.marks).where(JOBS.c.id == job)
    row = connection.execute(query.with_for_update()).one_or_none()
    if row is None:
        raise NotFoundError(f"no job {job!r}")
    if row.state not in OVER:
        raise ConflictError(f"job {job!r} is {row.state}: cancel it first")
    marks = dumped({**orjson.loads(row.marks), _DELETING: now})
    _change(connection, job, marks=marks)


def being_removed(job: Job) -> bool:
    return _DELETING in job.marks


def half_removed(connection: Connection) -> list[str]:
    """Return the jobs whose deletion was started."""
    query = select(JOBS.c.id).where(
        JOBS.c.state.in_(OVER), JOBS.c.marks.contains(f'"{_DELETING}"')
    )
    return list(connection.execute(query).scalars())


def remove(connection: Connection, job: str, limit: int) -> bool:
    """Delete a part of a marked job; return whether all of it is gone."""
    if not drop_items(connection, job, limit):
        return False
    connection.execute(delete(FILES).where(FILES.c.job == job))
    connection.execute(delete(JOBS).where(JOBS.c.id == job))
    return True

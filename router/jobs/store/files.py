"""The table of files; their bytes are on disk (`router.jobs.input.uploads`)."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import Connection, delete, select

from router.errors import ConflictError, NotFoundError
from router.jobs.model import ResultPage, StoredFile
from router.jobs.store.encoding import read_upload
from router.jobs.store.paging import Seen, paged
from router.jobs.store.tables import FILES, JOBS, OPEN


def add(connection: Connection, upload: StoredFile) -> None:
    connection.execute(FILES.insert().values(**asdict(upload)))


def get(connection: Connection, file: str) -> StoredFile:
    """Raises NotFoundError."""
    row = connection.execute(select(FILES).where(FILES.c.id == file)).one_or_none()
    if row is None:
        raise NotFoundError(f"no file {file!r}")
    return read_upload(row)


def listed(
    connection: Connection,
    page: ResultPage,
    purpose: str = "",
    account: str | None = None,
) -> tuple[list[StoredFile], bool]:
    """Return a page, and whether more follow. Raises NotFoundError for `after`.

    account: of this owner; None: of all
    """
    query = select(FILES)
    if purpose:
        query = query.where(FILES.c.purpose == purpose)
    rows, more = paged(connection, query, FILES, page, Seen(account))
    return [read_upload(row) for row in rows], more


def remove(connection: Connection, file: str) -> StoredFile:
    """Delete a row. Raises NotFoundError, ConflictError while an open job uses it."""
    upload = get(connection, file)
    of = JOBS.c.id == upload.job if upload.job else JOBS.c.spec.contains(f'"{file}"')
    using = select(JOBS.c.id).where(JOBS.c.state.in_(OPEN), of)
    job = connection.execute(using.limit(1)).scalar_one_or_none()
    if job is not None:
        raise ConflictError(f"job {job!r} uses file {file!r}")
    connection.execute(delete(FILES).where(FILES.c.id == file))
    return upload


def expired(connection: Connection, now: float, limit: int = 100) -> list[str]:
    """Return ids of expired files."""
    query = select(FILES.c.id).where(FILES.c.expires < now).limit(limit)
    return list(connection.execute(query).scalars())


def unused(connection: Connection, horizon: float, limit: int = 50) -> list[str]:
    """Return ids of uploads older than `horizon` that neither expire nor have a job."""
    named = JOBS.c.spec.contains('"' + FILES.c.id + '"')
    query = select(FILES.c.id).where(
        FILES.c.job == "",
        FILES.c.expires.is_(None),
        FILES.c.created < horizon,
        ~select(JOBS.c.id).where(named).exists(),
    )
    return list(connection.execute(query.limit(limit)).scalars())


def known(connection: Connection, files: list[str]) -> frozenset[str]:
    """Return those ids that are in the table."""
    query = select(FILES.c.id).where(FILES.c.id.in_(files))
    return frozenset(connection.execute(query).scalars())

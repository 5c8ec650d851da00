"""The table of items: leased with an expiry, ended by one result each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    func,
    literal,
    select,
    update,
)

from router.jobs.model import (
    Backlog,
    Counts,
    Item,
    ItemFault,
    ItemKind,
    ItemResult,
    ItemState,
    NewItem,
)
from router.jobs.store.database import lock_order
from router.jobs.store.encoding import (
    item_fields,
    read_item,
    result_fields,
)
from router.jobs.store.tables import ITEMS, RESULTS

_WAITING = ItemState.WAITING.value
_LEASED = ItemState.LEASED.value
_ITEM = [column for column in ITEMS.c if column.name != "body"]


def add(connection: Connection, job: str, items: Sequence[NewItem], now: float) -> None:
    """Add items; existing ones stay as they are."""
    faulty = [item for item in items if item.fault]
    rows = [
        item_fields(job, item, (ItemState.FAILED if item.fault else ItemState.WAITING))
        for item in items
    ]
    if rows:
        connection.execute(_insert(connection, ITEMS), rows)
    if faulty:
        lock_order(connection)
        results = [result_fields(job, _unread(item, now)) for item in faulty]
        connection.execute(_insert(connection, RESULTS), results)


def _insert(connection: Connection, table: Table) -> Any:
    """Return an insert that skips existing rows, in the database's dialect.

    Only that dialect is loaded: PostgreSQL's takes 2 MiB.
    """
    insert: Any
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert  # noqa: PLC0415
    else:
        from sqlalchemy.dialects.sqlite import insert  # noqa: PLC0415
    return insert(table).on_conflict_do_nothing(index_elements=["job", "key"])


def _unread(item: NewItem, now: float) -> ItemResult:
    key, kind, index, custom_id = item.key, item.kind, item.index, item.custom_id
    return ItemResult(
        key, kind, index, custom_id, 0, b"", "", "", item.fault, ended=now
    )


def lease(
    connection: Connection,
    owner: str,
    until: float,
    where: tuple[str, ItemKind, str],
    limit: int,
) -> list[Item]:
    """Take up to `limit` items of (job, kind, model), the heaviest first."""
    job, kind, model = where
    chosen = (
        select(ITEMS.c.id)
        .where(
            ITEMS.c.job == job,
            ITEMS.c.state == _WAITING,
            ITEMS.c.kind == kind.value,
            ITEMS.c.model == model,
        )
        .order_by(ITEMS.c.wave, ITEMS.c.rank, ITEMS.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = connection.execute(
        update(ITEMS)
        .where(ITEMS.c.id.in_(chosen))
        .values(state=_LEASED, owner=owner, leased_until=until)
        .returning(*_ITEM)
    )
    return [read_item(row) for row in rows]


def body(connection: Connection, item: int) -> bytes | None:
    """Return an item's stored body; None if the job was deleted."""
    query = select(ITEMS.c.body).where(ITEMS.c.id == item)
    found: bytes | None = connection.execute(query).scalar_one_or_none()
    return found


def renew(connection: Connection, owner: str, items: list[int], until: float) -> None:
    connection.execute(
        update(ITEMS)
        .where(ITEMS.c.id.in_(items), ITEMS.c.owner == owner)
        .values(leased_until=until)
    )


def give_back(connection: Connection, owner: str, items: list[int]) -> None:
    """Release leased items without counting a failed try."""
    _release(connection, ITEMS.c.id.in_(items), ITEMS.c.owner == owner)


def give_back_all(connection: Connection, owner: str) -> None:
    _release(connection, ITEMS.c.owner == owner)


def _release(connection: Connection, *of: ColumnElement[bool]) -> int:
    """Set leased items to waiting; return how many."""
    done = connection.execute(
        update(ITEMS)
        .where(ITEMS.c.state == _LEASED, *of)
        .values(state=_WAITING, owner=None, leased_until=None)
    )
    return done.rowcount


def count_try(connection: Connection, item: int, tries: int) -> None:
    connection.execute(update(ITEMS).where(ITEMS.c.id == item).values(tries=tries))


def reclaim(connection: Connection, jobs: Collection[str], now: float) -> int:
    """Release items whose lease has expired; return how many."""
    return _release(connection, ITEMS.c.job.in_(jobs), ITEMS.c.leased_until < now)


def reclaim_all(connection: Connection) -> int:
    """Release every leased item; for a database that only this router uses."""
    return _release(connection)


def finish(connection: Connection, job: str, result: ItemResult) -> bool:
    """Store an item's result; return False if it already had one."""
    lock_order(connection)
    fields = result_fields(job, result)
    insert = _insert(connection, RESULTS).values(**fields).returning(RESULTS.c.seq)
    if connection.execute(insert).scalar_one_or_none() is None:
        return False
    connection.execute(
        update(ITEMS)
        .where(ITEMS.c.job == job, ITEMS.c.key == result.key)
        .values(state=result.state.value, owner=None, leased_until=None)
    )
    return True


def call_off(
    connection: Connection,
    job: str,
    fault: ItemFault,
    *,
    now: float,
    limit: int,
    rows: range | None = None,
) -> int:
    """End waiting items without running them; return how many.

    rows: only these rows, also leased ones
    """
    states = [_WAITING] if rows is None else [_WAITING, _LEASED]
    lock_order(connection)
    picked = [ITEMS.c.job == job, ITEMS.c.state.in_(states)]
    if rows is not None:
        picked += [
            ITEMS.c.kind == ItemKind.ROW.value,
            ITEMS.c.row >= rows.start,
            ITEMS.c.row < rows.stop,
        ]
    chosen = connection.execute(
        select(ITEMS.c.id).where(and_(*picked)).limit(limit).with_for_update()
    )
    ids = list(chosen.scalars())
    if not ids:
        return 0
    ended = select(
        *(ITEMS.c[name] for name in ("job", "key", "kind", "row", "custom_id")),
        *(literal(value) for value in _ended_fields(fault, now).values()),
    ).where(ITEMS.c.id.in_(ids))
    columns = ["job", "key", "kind", "row", "custom_id", *_ended_fields(fault, now)]
    connection.execute(_insert(connection, RESULTS).from_select(columns, ended))
    connection.execute(
        update(ITEMS)
        .where(ITEMS.c.id.in_(ids))
        .values(state=ItemState.CANCELLED.value, owner=None, leased_until=None)
    )
    return len(ids)


def _ended_fields(fault: ItemFault, now: float) -> dict[str, Any]:
    blank = ItemResult("", ItemKind.ROW, 0, "", 0, b"", "", "", fault, ended=now)
    fields = result_fields("", blank)
    for name in ("job", "key", "kind", "row", "custom_id"):
        del fields[name]
    return fields


def counts(connection: Connection, job: str) -> tuple[Counts, Counts]:
    """Count rows and merges by state, from the index alone."""
    query = (
        select(ITEMS.c.state, ITEMS.c.kind, func.count())
        .where(ITEMS.c.job == job)
        .group_by(ITEMS.c.state, ITEMS.c.kind)
    )
    found: dict[str, dict[str, int]] = {kind.value: {} for kind in ItemKind}
    for state, kind, count in connection.execute(query):
        found[kind][state] = count
    return Counts(**found[ItemKind.ROW]), Counts(**found[ItemKind.MERGE])


def backlogs(
    connection: Connection, job: str
) -> Mapping[tuple[ItemKind, str], Backlog]:
    """Return the waiting items by kind and model."""
    query = (
        select(ITEMS.c.kind, ITEMS.c.model, func.count(), -func.sum(ITEMS.c.rank))
        .where(ITEMS.c.job == job, ITEMS.c.state == _WAITING)
        .group_by(ITEMS.c.kind, ITEMS.c.model)
    )
    return {
        (ItemKind(kind), model): Backlog(count, weight)
        for kind, model, count, weight in connection.execute(query)
    }


def needs_file(connection: Connection, job: str) -> bool:
    """Say whether waiting items need the job's file."""
    query = select(ITEMS.c.id).where(
        ITEMS.c.job == job, ITEMS.c.state == _WAITING, ITEMS.c.place >= 0
    )
    return connection.execute(query.limit(1)).scalar_one_or_none() is not None


def unsettled(connection: Connection, job: str) -> int:
    """Count the items that have no result yet."""
    query = (
        select(func.count())
        .select_from(ITEMS)
        .where(ITEMS.c.job == job, ITEMS.c.state.in_([_WAITING, _LEASED]))
    )
    return int(connection.execute(query).scalar_one())


def drop(connection: Connection, job: str, limit: int) -> bool:
    """Delete up to `limit` items or results; return whether none is left."""
    for table, key in ((ITEMS, ITEMS.c.id), (RESULTS, RESULTS.c.seq)):
        some = select(key).where(table.c.job == job).limit(limit)
        if connection.execute(table.delete().where(key.in_(some))).rowcount >= limit:
            return False
    return True


def drop_merges(connection: Connection, job: str) -> None:
    """Delete merges: other results need other merges."""
    for table in (ITEMS, RESULTS):
        merges = (table.c.job == job, table.c.kind == ItemKind.MERGE.value)
        connection.execute(table.delete().where(*merges))


def revive(connection: Connection, job: str, states: Iterable[ItemState]) -> int:
    """Set items that ended in these states to waiting; delete their results.

    A line that could not be read stays failed: it has no request. Returns how many.
    """
    picked = and_(
        ITEMS.c.job == job,
        ITEMS.c.state.in_([state.value for state in states]),
        ITEMS.c.size > 0,
    )
    keys = select(ITEMS.c.key).where(picked)
    connection.execute(
        RESULTS.delete().where(RESULTS.c.job == job, RESULTS.c.key.in_(keys))
    )
    done = connection.execute(
        update(ITEMS).where(picked).values(state=_WAITING, tries=0)
    )
    return done.rowcount

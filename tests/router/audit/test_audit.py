"""What was changed stays written, and whoever alters it is found out."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from router.assembly.audit import AuditService
from router.audit.store import AuditSearch, AuditStore
from router.audit.trail import AuditTrail, changed
from router.config.load import parse_config
from router.errors import StateError
from router.holds.store import HoldStore
from router.model import Hold, HoldKind, Inventory, Node
from router.text.audit_chain import ChainError, ChainHead, verify
from tests.router.control.fakes import MemoryJournal

NOW = 1_700_000_000.0
FILE = "audit.sqlite"


@pytest.fixture
def trail(tmp_path):
    made = AuditTrail(lambda: AuditStore(tmp_path), lambda: NOW)
    yield made
    made.close()


def fill(trail, count=5):
    for number in range(count):
        trail.record(
            "admin.cordon", f"node:n{number}", actor="token:admin", after=number
        )
    trail.flush()


def entries(trail):
    return trail.find(AuditSearch(after=0, limit=1000))


def tamper(folder, *statements):
    """Change the file as somebody would who may write it."""
    with closing(sqlite3.connect(folder / FILE)) as database, database:
        for act in ("UPDATE", "DELETE"):
            database.execute(f"DROP TRIGGER IF EXISTS entries_{act}")
        for statement in statements:
            database.execute(statement)


def test_chain_of_all_entries(trail):
    """Each entry follows from the one before, the head covers all."""
    fill(trail)
    found = entries(trail)
    assert verify(found, ChainHead()) == trail.head
    assert [1, 2, 3, 4, 5] == [entry["id"] for entry in found]
    assert ("token:admin", "node:n0", None, 0) == tuple(
        found[0][name] for name in ("actor", "target", "before", "after")
    )


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        (
            "UPDATE entries SET content = replace(content, 'n2', 'n9') WHERE id = 3",
            "entry 3 is not what was written",
        ),
        ("DELETE FROM entries WHERE id = 2", "entry 2 is missing: 3 follows"),
        ("UPDATE entries SET hash = 'x' WHERE id = 5", "entry 5 is not what was"),
        ("DELETE FROM entries WHERE id = 1", "entry 1 is missing: 2 follows"),
    ],
    ids=["changed", "taken out", "hash", "first"],
)
def test_tampering_shows(trail, tmp_path, statement, fault):
    """A change in the file itself breaks the chain, and says where."""
    fill(trail)
    tamper(tmp_path, statement)
    with pytest.raises(ChainError, match=fault):
        verify(entries(trail), ChainHead())


def test_cut_off_end_shows_by_the_head(trail, tmp_path):
    """Without its end the chain is whole, but shorter than what was noted."""
    fill(trail)
    noted = trail.head
    tamper(tmp_path, "DELETE FROM entries WHERE id > 3")
    assert verify(entries(trail), ChainHead()).id < noted.id


@pytest.mark.parametrize("act", ["DELETE FROM entries", "UPDATE entries SET hash = ''"])
def test_append_only(trail, tmp_path, act):
    """The database itself refuses what is not an addition."""
    fill(trail)
    with (
        closing(sqlite3.connect(tmp_path / FILE)) as database,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        database.execute(act)


def test_goes_on_after_a_restart(tmp_path):
    """Another process continues the chain."""
    for _ in range(2):
        made = AuditTrail(lambda: AuditStore(tmp_path), lambda: NOW)
        fill(made, 2)
        made.close()
    last = AuditTrail(lambda: AuditStore(tmp_path), lambda: NOW)
    assert verify(entries(last), ChainHead()).id == 4
    last.close()


def test_filters(trail):
    """By who, from where, what, on what, when; newest first but after a number."""
    fill(trail)
    trail.record("model.unload", "model:m:1", actor="anonymous", client="10.0.0.9")
    find = trail.find
    assert [6] == [e["id"] for e in find(AuditSearch(client="10.0.0.9"))]
    assert [5, 4] == [e["id"] for e in find(AuditSearch(actor="token:admin", limit=2))]
    assert [3, 4] == [e["id"] for e in find(AuditSearch(after=2, limit=2))]
    assert [2] == [e["id"] for e in find(AuditSearch(target="node:n1"))]
    assert find(AuditSearch(since=NOW + 1)) == find(AuditSearch(before=NOW)) == []
    assert len(find(AuditSearch(action="admin.cordon", since=NOW))) == 5


def test_disk_that_fails(tmp_path):
    """Entries wait in order for a disk that takes none; beyond a bound they go."""
    full = True

    def opened():
        if full:
            raise StateError("audit.sqlite: no space left")
        return AuditStore(tmp_path)

    trail = AuditTrail(opened, lambda: NOW)
    fill(trail, 3)
    assert (3, "audit.sqlite: no space left") == (len(trail), trail.fault)
    full = False
    fill(trail, 1)
    assert (0, None) == (len(trail), trail.fault)
    assert ["node:n0", "node:n1", "node:n2", "node:n0"] == [
        e["target"] for e in entries(trail)
    ]
    full, trail._store = True, None
    fill(trail, 10_001)
    assert (10_000, 1) == (len(trail), trail.dropped)


def test_seldom():
    """What anybody may do at will is noted once a minute."""
    now = [NOW]
    trail = AuditTrail(lambda: pytest.fail("no file is needed"), lambda: now[0])
    assert [True, False, True] == [trail.seldom(each) for each in ("a", "a", "b")]
    now[0] += 59
    assert not trail.seldom("a")
    now[0] += 2
    assert trail.seldom("a")
    assert sum(trail.seldom(number) for number in range(3000)) == 3000
    assert len(trail._lately) <= 1024


def test_changed():
    """Only what differs is told, on either side."""
    assert changed({"a": 1, "b": 2}, {"b": 3, "c": 4}) == (
        {"a": 1, "b": 2},
        {"b": 3, "c": 4},
    )
    assert changed({"a": 1}, {"a": 1}) == ({}, {})


def test_what_happens_without_a_request(tmp_path):
    """Holds that come and go, and files that are read again; passwords never."""
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry()
    service = AuditService(tmp_path, registry)
    holds = HoldStore(MemoryJournal())
    holds.fleet({"a"})
    service.watch_holds(holds)
    hold = Hold("a", HoldKind.DRAIN, "alert:GpuHot:1", "hot", NOW)
    holds.place(hold)
    holds.lift(*hold.key, by="level", why="proven well")
    old = Inventory((Node("a", "http://a:1"),))
    service.inventory(old, Inventory((*old.nodes, Node("b", "http://u:p@b:1", 2))))
    config = parse_config("log: {level: info}", {})
    service.settings(config, replace_url(config, "postgresql://router:secret@db/jobs"))
    found = entries(service.trail)
    assert ["hold.placed", "hold.lifted", "inventory.reload", "config.reload"] == [
        e["action"] for e in found
    ]
    placed, lifted, inventory, settings = found
    assert (None, "GpuHot") == (
        placed["before"],
        placed["after"]["source"].split(":")[1],
    )
    assert (placed["after"], None) == (lifted["before"], lifted["after"])
    assert {"b": {"url": "http://***@b:1", "slots": 2}} == inventory["after"]
    assert placed["at"] == registry.get_sample_value(
        "inferops_audit_last_entry_timestamp_seconds", {"action": "hold.placed"}
    )
    assert "secret" not in str(settings)
    assert settings["after"] != settings["before"]
    service.trail.close()


def replace_url(config, url):
    return config.model_copy(
        update={"prometheus": config.prometheus.model_copy(update={"url": url})}
    )


def test_head_is_text():
    """As it is noted elsewhere."""
    assert str(replace(ChainHead(), id=3, hash="ab")) == "3:ab"

"""A router that dies under load, again and again: what its ledger and quotas keep.

`INFEROPS_KILLS` says how often `make test-long` kills it.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from tests.harness.keys import OPERATOR, admin_token, bearer, make_key
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.router import Router

pytestmark = pytest.mark.e2e

MODEL = "llama3.2:3b"
KILLS = int(os.environ.get("INFEROPS_KILLS", "50"))
SURE_SECONDS = 1.0  # what came before that must be kept
MOST = 10**9  # a limit that is never reached


@dataclass
class Sent:
    """One request: the most it can count, and what its client has seen of it."""

    name: str
    most_tokens: int
    accepted: float | None = None
    ended: float | None = None
    tokens: int = 0


@dataclass
class Load:
    """Clients with one key that stream until the router is gone."""

    port: int
    key: dict[str, str]
    clients: int = 6
    sent: list[Sent] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._threads = [
            threading.Thread(target=self._run, args=(n,)) for n in range(self.clients)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()

    def accepted(self, before: float) -> list[Sent]:
        return [s for s in self.sent if s.accepted is not None and s.accepted < before]

    def many_are_sure(self) -> bool:
        return len(self.accepted(time.monotonic() - SURE_SECONDS)) > 3

    def _run(self, number: int) -> None:
        rng = random.Random(number)
        count = 0
        while True:
            count += 1
            asked = rng.choice((5, 30, 400))
            made = Sent(f"load-{self.port}-{number}-{count}", asked + 50)
            self.sent.append(made)
            try:
                self._ask(made, asked)
            except (OSError, http.client.HTTPException, ValueError):
                return

    def _ask(self, made: Sent, tokens: int) -> None:
        messages = [{"role": "user", "content": "count on from 7"}]
        options = {"num_predict": tokens}
        body = {"model": MODEL, "messages": messages, "options": options}
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with closing(client):
            headers = {**self.key, "X-Request-Id": made.name}
            client.request("POST", "/api/chat", json.dumps(body), headers)
            answer = client.getresponse()
            made.accepted = time.monotonic()
            last = json.loads(answer.read().splitlines()[-1])
            made.tokens = last["prompt_eval_count"] + last["eval_count"]
            made.ended = time.monotonic()


def rows_of(folder: Path) -> list[tuple[str, str]]:
    path = folder / "router-state" / "usage.sqlite"
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT request_id, outcome FROM requests").fetchall()


def counted(folder: Path) -> dict[str, int]:
    """What the key has used of its quotas, as it is on the disk."""
    path = folder / "router-state" / "limits.sqlite"
    with closing(sqlite3.connect(path)) as database:
        return dict(database.execute("SELECT what, count FROM counts").fetchall())


@dataclass
class Kept:
    """What must be on the disk by now, at least and at most, over all lives."""

    sure: set[str] = field(default_factory=set)
    least: dict[str, int] = field(default_factory=lambda: {"requests": 0, "tokens": 0})
    most: dict[str, int] = field(default_factory=lambda: {"requests": 0, "tokens": 0})

    def add(self, load: Load, killed: float) -> None:
        """Take in a life that ended at this time."""
        early = killed - SURE_SECONDS
        accepted = load.accepted(early)
        self.sure |= {each.name for each in accepted}
        self.least["requests"] += len(accepted)
        self.most["requests"] += len(load.sent)
        for each in load.sent:
            if each.ended is None:
                self.most["tokens"] += each.most_tokens
                continue
            if each.ended < early:
                self.least["tokens"] += each.tokens
            self.most["tokens"] += each.tokens

    def check(self, folder: Path) -> dict[str, int]:
        """Return what quotas have counted."""
        names = [name for name, _ in rows_of(folder)]
        missing = self.sure - set(names)
        assert not missing, f"{len(missing)} of {len(self.sure)} are not in the ledger"
        assert len(names) == len(set(names))
        found = counted(folder)
        for what, count in found.items():
            assert self.least[what] <= count <= self.most[what], (what, count, self)
        return found


def is_past(at: float) -> bool:
    return time.monotonic() >= at


def kill_under_load(folder: Path, inventory: Path, kills: int) -> Kept:
    """Kill it at random moments; after each, all is there, once, and grows."""
    rng = random.Random(f"kill-{kills}")
    kept, key, before = Kept(), None, {"requests": 0, "tokens": 0}
    settings = {"ACCESS__KEYS": "required", **admin_token(folder)}
    for _ in range(kills):
        with Router(
            folder, inventory, prometheus_port=free_port(), settings=settings
        ) as router:
            if key is None:
                terms = {"requests_per_month": MOST, "tokens_per_month": MOST}
                key = bearer(make_key(router, "load", limits=terms))
            with Load(router.port, key) as load:
                until(load.many_are_sure, "the load is under way")
                time_has_come = partial(
                    is_past, time.monotonic() + rng.uniform(0.0, 1.5)
                )
                until(time_has_come, "its time has come")
                router.process.kill()
                killed = time.monotonic()
        kept.add(load, killed)
        found = kept.check(folder)
        assert all(found[what] >= before[what] for what in before), (before, found)
        before = found
    with Router(
        folder, inventory, prometheus_port=free_port(), settings=settings
    ) as router:
        body = {"model": MODEL, "prompt": "hi", "options": {"num_predict": 1}}
        answer = router.post("/api/generate", body, headers=key)
        left = MOST - before["requests"] - 1
        assert str(left) == answer.headers["x-ratelimit-remaining-requests"]
        router.get("/admin/usage", headers=OPERATOR).raise_for_status()
        outcomes = {outcome for _, outcome in rows_of(folder)}
    assert "lost" in outcomes
    assert "running" not in {o for n, o in rows_of(folder) if n in kept.sure}
    return kept


def test_killed_under_load(tmp_path, fleet):
    """Twice: nothing is missing but the last second's, nothing counted twice."""
    kept = kill_under_load(tmp_path, fleet.inventory, 2)
    assert len(kept.sure) > 2 * 3


@pytest.mark.long
@pytest.mark.timeout(40 * KILLS)
def test_killed_at_many_moments(tmp_path, fleet):
    """The same at fifty moments."""
    kept = kill_under_load(tmp_path, fleet.inventory, KILLS)
    print(f"{KILLS} kills: {len(kept.sure)} sure, {kept.least}, {kept.most}")
    assert len(kept.sure) > 3 * KILLS

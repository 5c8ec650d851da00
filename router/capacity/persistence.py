"""What the ledger knows, kept over a restart: speeds, ceilings, slots in use.

Two files in the state directory, each replaced whole. Slots in use are few bytes,
written when they changed; speeds are written on a slow timer and at the end. They
are knowledge, not truth: a file that cannot be read is left aside, and learned again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from router.capacity import recovered
from router.capacity.ledger import Ledger
from router.capacity.throughput import Point, ThroughputCurve
from router.errors import BusyError
from router.logs.events import get_logger
from router.model import Inventory
from router.runtime.turns import in_turns

_SCHEMA = 1
_MOST_KEPT = 4096  # curves in the file, the newest: about 1 MB
_STALE_SECONDS = 300.0  # what ran that long ago has ended

log = get_logger("persistence")


class LedgerPersistence:
    """Reads the files at start, and writes them."""

    def __init__(
        self,
        directory: Path,
        ledger: Ledger,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        offload: Callable[[Callable[[], None]], None] = lambda call: call(),
    ) -> None:
        self._speeds = directory / "speeds.json"
        self._in_use = directory / "in-use.json"
        self._ledger = ledger
        self._clock = clock
        self._monotonic = monotonic
        self._offload = offload
        self._written: dict[str, Any] = {}
        self._unkept: set[Path] = set()
        self._keeps = True

    def load(self, inventory: Inventory) -> None:
        """Take over what the last router wrote; nodes that left are left out."""
        _guarded(self._speeds, lambda found: self._load_speeds(found, inventory))
        _guarded(self._in_use, lambda found: self._load_in_use(found, inventory))

    def _load_speeds(self, found: dict[str, Any], inventory: Inventory) -> None:
        names, age = inventory.names(), max(0.0, self._clock() - float(found["at"]))
        now = self._monotonic()
        curves = {
            (str(entry["node"]), str(entry["model"])): _curve(entry, now - age)
            for entry in found["curves"]
            if entry["node"] in names
        }
        ceilings = {key: c for key, c in _ceilings(found).items() if key[0] in names}
        self._ledger.learned.recall(curves, found.get("scaling", []), now - age)
        self._ledger.ceiling_search.recall(ceilings)

    def _load_in_use(self, found: dict[str, Any], inventory: Inventory) -> None:
        if self._clock() - float(found["at"]) > _STALE_SECONDS:
            return
        names = inventory.names()
        counts = {n: int(c) for n, c in found["counts"].items() if n in names}
        expiries = {n: dict(e) for n, e in found["expiries"].items() if n in names}
        until = self._monotonic() + recovered.SECONDS
        self._ledger.recall(counts, expiries, until)

    def note_in_use(self, inventory: Inventory) -> None:
        """Write the slots in use if they changed; quick enough for each second."""
        running = self._ledger.running
        counts = {n: c for n in inventory.names() if (c := running(n))}
        state = {"counts": counts, "expiries": self._ledger.expiries.seen}
        data = orjson.dumps(state)
        if data != self._written.get("in-use"):
            self._written["in-use"] = data
            self._write(self._in_use, {"at": self._clock(), **state})

    def note_speeds(self) -> None:
        now = self._monotonic()
        newest = self._ledger.learned.newest(_MOST_KEPT)
        entries = [
            {"node": node, "model": model, **_entry(curve, now)}
            for (node, model), curve in in_turns(newest)
        ]
        ceiling_search, policy = (
            self._ledger.ceiling_search,
            self._ledger.learned.policy,
        )
        state = {
            "curves": entries,
            "ceilings": dict(ceiling_search.most),  # what an older router reads
            "model_ceilings": [
                [*key, each] for key, each in ceiling_search.learned.items()
            ],
            "scaling": policy.kept(now),
        }
        self._write(self._speeds, {"at": self._clock(), **state})

    def keep_no_more(self) -> None:
        """Leave the files to the router that has taken over."""
        self._keeps = False

    def _write(self, path: Path, state: dict[str, Any]) -> None:
        """Replace the file whole; memory goes on where the disk does not."""
        if not self._keeps:
            return
        data = orjson.dumps({"schema": _SCHEMA, **state})
        try:
            self._offload(lambda: _replace(path, data))
        except (OSError, BusyError) as error:
            if path not in self._unkept:  # told once, tried again each time
                log.warning("not_kept", file=path.name, why=str(error))
            self._unkept.add(path)
        else:
            self._unkept.discard(path)


def _ceilings(found: dict[str, Any]) -> dict[tuple[str, str], int]:
    """Read what ran at once, by node and model; of a node as a whole under ""."""
    if "model_ceilings" in found:
        return {(str(n), str(m)): int(c) for n, m, c in found["model_ceilings"]}
    return {(str(node), ""): int(c) for node, c in found["ceilings"].items()}


def _entry(curve: ThroughputCurve, now: float) -> dict[str, Any]:
    # The fourth is the variance that an older router reads.
    points = [[k, p.weight, p.mean, 0.0, now - p.at] for k, p in curve.points.items()]
    return {"pace": curve.pace, "usual": curve.usual, "points": points}


def _curve(entry: dict[str, Any], now: float) -> ThroughputCurve:
    points = {
        int(k): Point(float(weight), float(mean), now - float(age))
        for k, weight, mean, _variance, age, *_ in entry["points"]
        if mean > 0
    }
    pace = float(entry["pace"])
    curve = ThroughputCurve(pace, points, usual=float(entry.get("usual", pace)))
    curve.drift(1.0, now)  # slowed down or not, from when it was written on
    return curve


def _replace(path: Path, data: bytes) -> None:
    draft = path.with_suffix(".draft")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def _guarded(path: Path, load: Callable[[dict[str, Any]], None]) -> None:
    try:
        found = orjson.loads(path.read_bytes())
        if found["schema"] != _SCHEMA:
            raise ValueError(f"schema {found['schema']!r}")  # noqa: TRY301 - as the rest
        load(found)
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("not_recalled", file=path.name, why=repr(error))

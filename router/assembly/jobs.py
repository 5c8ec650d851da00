"""Puts the parts of jobs together; called once, by `router.wsgi`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from router.config.settings import BatchSettings
from router.failover.attempts import Failover
from router.jobs.input.bodies import Bodies
from router.jobs.input.readers import ReadLimits
from router.jobs.input.room import Room, RoomLimits
from router.jobs.input.sources import DatasetFiles, FileSettings
from router.jobs.input.upload_parts import PartedUploads
from router.jobs.input.uploads import Uploads
from router.jobs.metrics import JobCollector, JobMetrics
from router.jobs.model import JobSpec
from router.jobs.planning.length_predictor import LengthPredictor
from router.jobs.planning.persistence import PredictorPersistence
from router.jobs.planning.policy import PullPolicy
from router.jobs.planning.speeds import LearnedSpeeds
from router.jobs.reducers import Reducer, reducer_for
from router.jobs.service import JobService, JobServiceDependencies
from router.jobs.store import items
from router.jobs.store.database import JobDatabase, database_url
from router.jobs.store.schema import migrate
from router.scheduling.idle import FleetView, SpareCapacity


@dataclass(frozen=True, slots=True)
class JobDependencies:
    """What jobs need of the router; `settings` as they are now."""

    folder: Path
    fleet: FleetView
    failover: Failover
    registry: CollectorRegistry
    settings: Callable[[], BatchSettings]


def build_batches(around: JobDependencies) -> tuple[JobService, DatasetFiles]:
    """Build jobs and what reads their files. Raises ConfigError."""
    settings, fleet = around.settings, around.fleet
    now = settings()
    lengths, tally = LengthPredictor(), JobMetrics(around.registry)
    url = database_url(now.database, around.folder, now.database_password_file)
    database = JobDatabase(url, migrate)
    database.committed = tally.committed
    files = DatasetFiles(
        lengths, lambda: _file_settings(settings()), copies=not database.sqlite
    )
    folder = around.folder / "files"
    room = Room(folder, lambda: _room_limits(settings()))
    uploads = Uploads(folder, room)
    ledger, published = fleet.ledger, fleet.published
    batches = JobService(
        JobServiceDependencies(
            database=database,
            uploads=uploads,
            parted=PartedUploads(around.folder / "uploads", uploads),
            room=room,
            bodies=Bodies(
                lambda item: database.read(lambda c: items.body(c, item)),
                uploads.path,
                lambda: _file_settings(settings()),
            ),
            idle=SpareCapacity(fleet),
            ledger=ledger,
            attempts=around.failover,
            policy=PullPolicy(lengths),
            speeds=LearnedSpeeds(ledger, lambda: published.current, time.monotonic),
            predictor=lengths,
            tally=tally,
            source=files,
            memory=PredictorPersistence(around.folder / "lengths.json", lengths),
            make_reducer=_make_reducer,
            settings=settings,
        )
    )
    around.registry.register(JobCollector(batches.standing))
    published.listen(batches.nudge)
    fleet.holds.listen(batches.nudge)
    return batches, files


def _file_settings(settings: BatchSettings) -> FileSettings:
    limits = ReadLimits(
        rows=settings.max_items,
        row_bytes=settings.max_line_bytes,
        file_bytes=settings.max_file_bytes,
    )
    return FileSettings(limits, settings.reader_memory_bytes)


def _room_limits(settings: BatchSettings) -> RoomLimits:
    return RoomLimits(settings.max_stored_bytes, settings.min_free_bytes)


def _make_reducer(spec: JobSpec, total: int) -> Reducer | None:
    """Make what puts results together; where each stands for itself, nothing does."""
    if spec.reducer.get("kind", "map") == "map":
        return None
    return reducer_for(spec.reducer, total)

"""Builds jobs and what reads their files."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from router.assembly.dispatch import DispatchServices
from router.assembly.foundation import Foundation
from router.config.settings import JobSettings
from router.jobs.input.bodies import Bodies
from router.jobs.input.readers import ReadLimits
from router.jobs.input.room import Room, RoomLimits
from router.jobs.input.sources import DatasetFiles, FileSettings
from router.jobs.input.upload_parts import PartedUploads
from router.jobs.input.uploads import Uploads
from router.jobs.metrics import JobMetrics, job_families
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
from router.metrics.families import AtScrape
from router.scheduling.idle import SpareCapacity


@dataclass(frozen=True, slots=True)
class JobServices:
    """Jobs, and what reads the files that they are made of."""

    service: JobService
    files: DatasetFiles


def build_jobs(base: Foundation, dispatch: DispatchServices) -> JobServices:
    """Build jobs and what reads their files. Raises ConfigError."""

    def settings() -> JobSettings:
        return base.config.jobs

    folder = base.config.state.directory
    tally = JobMetrics(base.registry)
    database = _database(settings(), folder, tally)
    lengths = LengthPredictor()
    files = DatasetFiles(
        lengths, lambda: _file_settings(settings()), copies=not database.sqlite
    )
    room = Room(folder / "files", lambda: _room_limits(settings()))
    uploads = Uploads(folder / "files", room)
    ledger, published = dispatch.ledger, base.published
    service = JobService(
        JobServiceDependencies(
            database=database,
            uploads=uploads,
            parted=PartedUploads(folder / "uploads", uploads),
            room=room,
            bodies=Bodies(
                lambda item: database.read(lambda c: items.body(c, item)),
                uploads.path,
                lambda: _file_settings(settings()),
            ),
            idle=SpareCapacity(dispatch.fleet),
            ledger=ledger,
            attempts=dispatch.failover,
            policy=PullPolicy(lengths),
            speeds=LearnedSpeeds(ledger, lambda: published.current, time.monotonic),
            predictor=lengths,
            tally=tally,
            source=files,
            memory=PredictorPersistence(folder / "lengths.json", lengths),
            make_reducer=_make_reducer,
            settings=settings,
            refused=base.quotas.item_refused,
        )
    )
    base.registry.register(AtScrape(lambda: job_families(service.view())))
    published.listen(service.wake)
    base.holds.listen(service.wake)
    return JobServices(service, files)


def _database(settings: JobSettings, folder: Path, tally: JobMetrics) -> JobDatabase:
    url = database_url(settings.database, folder, settings.database_password_file)
    database = JobDatabase(url, migrate)
    database.committed = tally.committed
    return database


def _file_settings(settings: JobSettings) -> FileSettings:
    limits = ReadLimits(
        rows=settings.max_items,
        row_bytes=settings.max_line_bytes,
        file_bytes=settings.max_file_bytes,
    )
    return FileSettings(limits, settings.reader_memory_bytes)


def _room_limits(settings: JobSettings) -> RoomLimits:
    return RoomLimits(settings.max_stored_bytes, settings.min_free_bytes)


def _make_reducer(spec: JobSpec, total: int) -> Reducer | None:
    """Make what puts results together; where each stands for itself, nothing does."""
    if spec.reducer.get("kind", "map") == "map":
        return None
    return reducer_for(spec.reducer, total)

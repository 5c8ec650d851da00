"""What is to be told of a card at one moment, from what its samplers left behind.

Makes no call of the driver. A card that is lost or hangs keeps `up`, the age of its
last successes and its counted events; everything else of it vanishes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from exporters.gpu.card import Gpu, Parts
from exporters.gpu.loops import State
from exporters.gpu.quantity import SNAPSHOT
from exporters.gpu.rows import Row
from exporters.nvml_library import Meaning, is_forbidden, meaning

ENERGY_CALL = "nvmlDeviceGetTotalEnergyConsumption"


@dataclass(slots=True)
class Reported:
    """One card's series, what is wrong with it, and whether it answers.

    forbidden: we may not read it, so that it proves nothing that it does not answer
    """

    uuid: str | None = None
    rows: list[Row] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    answers: bool = False
    forbidden: bool = False


def reported(card: Gpu, now: float) -> Reported:
    """Return what there is to say of a card; `now` is on the monotonic clock."""
    parts = card.parts
    if parts is None:
        faults = list(_faults(card, f"GPU {card.index}", now))
        return Reported(faults=faults, forbidden=_forbidden(card))
    found = Reported(
        parts.facts.uuid, faults=list(_faults(card, parts.facts.uuid, now))
    )
    found.forbidden = _forbidden(card)
    states = {loop.name: loop.state(now) for loop in card.loops}
    lost = _lost(card)
    found.answers = states["fast"] is State.WORKS and parts.fast.answers
    well = found.answers or states["fast"] is State.WAITING
    stuck = lost or {State.ENDED, State.HANGS}.intersection(states.values())
    found.rows.append(Row("inferops_gpu_up", well and not stuck))
    found.rows += _successes(card)
    if lost:
        return found
    if found.answers:
        found.rows += _identity(card, parts, now)
        found.rows += parts.fast.rows()
        found.rows += _own_figures(card)
    if states["slow"] is State.WORKS:
        found.rows += parts.slow.rows()
        if not _driver_counts(card, parts) and found.answers:
            found.rows += _integrated(parts)
    return found


def counts(cards: Collection[Reported], listed: int) -> Iterator[Row]:
    """Yield how many cards answer, of how many, and how many are not read at all."""
    yield Row("inferops_gpus", sum(card.answers for card in cards))
    yield Row("inferops_gpus_listed", listed)
    for reason, count in (
        ("left_out", listed - len(cards)),
        ("no_permission", sum(card.forbidden for card in cards)),
    ):
        yield Row("inferops_gpus_not_read", count, {"reason": reason})


def _forbidden(card: Gpu) -> bool:
    error = card.error()
    return error is not None and is_forbidden(error)


def _lost(card: Gpu) -> bool:
    error = card.error()
    return error is not None and meaning(error) in {Meaning.LOST, Meaning.GONE}


def _faults(card: Gpu, who: str, now: float) -> Iterator[str]:
    error = card.error()
    if error is not None and _lost(card):
        reason = next(each.reason for each in card.loops if each.error)
        yield f"{who}: {reason}"
        return
    for loop in card.loops:
        if loop.reason:
            yield f"{who}: the {loop.name} sampler has ended: {loop.reason}"
        elif loop.state(now) is State.HANGS:
            yield f"{who}: a driver call of the {loop.name} sampler hangs"
    for line in card.troubles.lines():
        yield f"{who}: {line}"


def _successes(card: Gpu) -> Iterator[Row]:
    for loop in card.loops:
        if loop.figures.last_success is not None:
            yield Row(
                "inferops_gpu_sampler_last_success_timestamp_seconds",
                loop.figures.last_success,
                {"sampler": loop.name},
            )


def _own_figures(card: Gpu) -> Iterator[Row]:
    for loop in card.loops:
        if loop.name == "fast":
            yield Row("inferops_gpu_sampler_tick_seconds", loop.interval)
            yield Row("inferops_gpu_sampler_ticks_total", loop.figures.steps)
            yield Row("inferops_gpu_sampler_late_ticks_total", loop.figures.late)
        if loop.name != "events":  # which is all waiting
            yield Row(
                "inferops_gpu_sampler_busy_seconds_total",
                loop.figures.busy_seconds,
                {"sampler": loop.name},
            )
    for (call, error), count in tuple(card.troubles.counts.items()):
        labels = {"call": call, "error": error}
        yield Row("inferops_gpu_call_errors_total", count, labels)


def _identity(card: Gpu, parts: Parts, now: float) -> Iterator[Row]:
    yield Row("inferops_gpu_info", 1, parts.facts.about)
    semantics = parts.facts.power_semantics
    if semantics:
        yield _source("power_watts", SNAPSHOT, semantics)
    if (source := parts.fast.power.source(now)) is not None:
        yield _source("power", source, "instant")
    if (source := parts.fast.utilization.source(now)) is not None:
        yield _source("utilization", source, "share_of_period")
    if _driver_counts(card, parts):
        yield _source("energy", "driver", "cumulative")
    elif parts.fast.joules() is not None:
        yield _source("energy", "power_samples", "cumulative")


def _source(quantity: str, source: str, semantics: str) -> Row:
    labels = {"quantity": quantity, "source": source, "semantics": semantics}
    return Row("inferops_gpu_source_info", 1, labels)


def _driver_counts(card: Gpu, parts: Parts) -> bool:
    # A counter that is there but breaks is not replaced: two sources would make
    # two series of one quantity.
    return parts.slow.counts_energy or card.troubles.has(ENERGY_CALL)


def _integrated(parts: Parts) -> Iterator[Row]:
    joules = parts.fast.joules()
    if joules is not None:
        labels = {"source": "power_samples"}
        yield Row("inferops_gpu_energy_joules_total", joules, labels)

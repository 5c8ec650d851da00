"""Runs a table of readings of one card, each at its own pace, each on its own.

What a card does not offer has no series and is asked for again a minute later. What
breaks has no series either, and is counted and reported. A lost card, or a library
that is gone, ends the run with its error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from exporters.gpu.integrals import Unwrapped
from exporters.gpu.rows import NO_LABELS, Row
from exporters.nvml_library import (
    Handle,
    Meaning,
    Nvml,
    NvmlError,
    describe,
    field_number,
    meaning,
    wraps_at,
)

ABSENT_SECONDS = 60.0

Read = Callable[[Nvml, Handle], Iterable[Row]]


@dataclass(frozen=True, slots=True)
class Probe:
    """One call, and the series that come from it."""

    call: str  # the library's name of it
    period: float  # seconds from one call to the next; 0: at each step
    read: Read


@dataclass(frozen=True, slots=True)
class Field:
    """One of the driver's numbered fields, as a series."""

    number: int
    name: str
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)
    factor: float = 1.0
    wraps: bool = False
    scope: int = 0


@dataclass(frozen=True, slots=True)
class FieldsProbe:
    """Fields that one call asks for together.

    NVLink's must not be last: behind one, driver 580 looks at the next field too,
    beyond the end of the list, and writes there what it takes for another of them.
    """

    fields: Sequence[Field]
    period: float
    call: str = "nvmlDeviceGetFieldValues"


class Troubles:
    """What breaks on one card: counted for ever, reported while it lasts."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = {}
        self._now: dict[str, str] = {}

    def note(self, call: str, error: NvmlError) -> None:
        """Take in an error; raises it where the card or the library is gone."""
        what = meaning(error)
        if what in {Meaning.LOST, Meaning.GONE}:
            raise error
        if what is Meaning.ABSENT:
            self._now.pop(call, None)
            return
        text = describe(error)
        self._now[call] = text
        self.counts[call, text] = self.counts.get((call, text), 0) + 1

    def over(self, call: str) -> None:
        self._now.pop(call, None)

    def has(self, call: str) -> bool:
        return call in self._now

    def lines(self) -> list[str]:
        return [f"{call}: {text}" for call, text in tuple(self._now.items())]


class Probes:
    """The probes of one card and what each read last."""

    def __init__(
        self,
        nvml: Nvml,
        handle: Handle,
        probes: Sequence[Probe | FieldsProbe],
        troubles: Troubles,
    ) -> None:
        self._nvml = nvml
        self._handle = handle
        self._probes = probes
        self._troubles = troubles
        self._due = [0.0] * len(probes)
        self._found: dict[int, tuple[Row, ...]] = {}
        self.refusal: NvmlError | None = None  # what a call last failed with
        self._unwrapped: dict[int, Unwrapped] = {}

    @property
    def answers(self) -> bool:
        """Whether any of the readings can be had at present."""
        return any(tuple(self._found.values()))

    def step(self, now: float) -> None:
        """Run those that are due; `now` is on the monotonic clock.

        Raises NvmlError where the card or the library is gone.
        """
        for place, probe in enumerate(self._probes):
            if now < self._due[place]:
                continue
            self._due[place] = now + probe.period
            if not self._run(place, probe):
                self._due[place] = now + max(probe.period, ABSENT_SECONDS)

    def _run(self, place: int, probe: Probe | FieldsProbe) -> bool:
        """Run one; False where the card does not offer it."""
        try:
            if isinstance(probe, FieldsProbe):
                rows = tuple(self._fields(probe))
            else:
                rows = tuple(probe.read(self._nvml, self._handle))
        except NvmlError as error:
            self._found.pop(place, None)
            self.refusal = error
            self._troubles.note(probe.call, error)
            return meaning(error) is not Meaning.ABSENT
        self._found[place] = rows
        self._troubles.over(probe.call)
        return True

    def _fields(self, probe: FieldsProbe) -> Iterator[Row]:
        asked = [
            (each.number, each.scope) if each.scope else each.number
            for each in probe.fields
        ]
        found = self._nvml.nvmlDeviceGetFieldValues(self._handle, asked)
        for each, value in zip(probe.fields, found, strict=True):
            call = f"{probe.call} {each.number}"
            try:
                amount = field_number(value)
            except NvmlError as error:
                self.refusal = error
                self._troubles.note(call, error)
                continue
            self._troubles.over(call)
            if each.wraps:
                counter = self._unwrapped.setdefault(each.number, Unwrapped())
                amount = counter.add(amount, wraps_at(value))
            yield Row(each.name, amount * each.factor, each.labels)

    def rows(self) -> Iterator[Row]:
        for rows in tuple(self._found.values()):
            yield from rows

    def of(self, call: str) -> tuple[Row, ...]:
        """Return what the first probe of that call read last."""
        for place, probe in enumerate(self._probes):
            if probe.call == call:
                return self._found.get(place, ())
        return ()

    def latest(self, name: str, label: str | None = None) -> float | None:
        """Return what a series was last, by a value of its labels if it has any."""
        for row in self.rows():
            if row.name == name and (label is None or label in row.labels.values()):
                return row.value
        return None

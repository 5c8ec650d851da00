"""Which of a machine's GPUs one exporter reads; pure.

Two Ollamas on one machine have a GPU and an exporter each: what happens to one GPU
must not count for the other's node.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

_TOKEN = re.compile(r"\d+|(GPU|MIG)-[0-9a-z/-]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Identity:
    """What identifies a GPU; its index is its place in the driver's list."""

    uuid: str
    name: str
    instances: tuple[str, ...] = ()  # UUIDs of its MIG instances


@dataclass(frozen=True, slots=True)
class Selection:
    """GPUs by the driver's index, by UUID (or its beginning), by a MIG instance's UUID.

    tokens: None for every GPU, empty for none
    source: where it was said, for messages
    by_speed: numbers count from the fastest GPU, as CUDA does by default
    """

    tokens: tuple[str, ...] | None
    source: str = field(compare=False)
    by_speed: bool = False

    @property
    def everything(self) -> bool:
        return self.tokens is None

    def numbers(self) -> list[int]:
        return [int(each) for each in self.tokens or () if each.isdigit()]

    def names(self) -> list[str]:
        return [each.lower() for each in self.tokens or () if not each.isdigit()]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The indices to read, ascending; `faults` names what is selected and missing."""

    indices: tuple[int, ...]
    faults: tuple[str, ...] = ()


def parse(text: str, source: str) -> Selection:
    """Read `all`, or GPUs with commas between; raises ValueError."""
    if text == "all":
        return Selection(None, source)
    tokens = tuple(each.strip() for each in text.split(","))
    for token in tokens:
        if not _TOKEN.fullmatch(token):
            raise ValueError(
                "must be all, or indices or UUIDs (GPU-...) of nvidia-smi -L with"
                f" commas between, got {token!r}"
            )
    return Selection(tokens, source)


def of_environment(environment: Mapping[str, str], source: str) -> Selection:
    """Return what a CUDA program with this environment sees.

    As CUDA reads CUDA_VISIBLE_DEVICES: what stands behind the first invalid entry is
    invisible, so that -1 or nothing at all hides every GPU.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return Selection(None, source)
    tokens: list[str] = []
    for each in visible.split(","):
        if not _TOKEN.fullmatch(each.strip()):
            break
        tokens.append(each.strip())
    by_speed = environment.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID"
    return Selection(tuple(tokens), source, by_speed=by_speed)


def choose(
    selection: Selection, count: int, identify: Callable[[int], Identity | None]
) -> Chosen:
    """Pick from the driver's `count` GPUs.

    identify: asks a GPU who it is; None where it does not answer. Asked only where
        the selection is not by the driver's own numbers
    """
    if selection.everything:
        return Chosen(tuple(range(count)))
    numbers = selection.numbers()
    if not selection.names() and not (numbers and selection.by_speed):
        return _by_index(selection, count, numbers)
    identities = [identify(index) for index in range(count)]
    if numbers and selection.by_speed and not _all_alike(identities):
        fault = (
            f"{selection.source}: CUDA counts unequal GPUs by their speed, so {numbers}"
            " names none for certain: all are read (use UUIDs, set"
            " CUDA_DEVICE_ORDER=PCI_BUS_ID, or give --gpus)"
        )
        return Chosen(tuple(range(count)), (fault,))
    return _by_identity(selection, identities)


def _by_index(selection: Selection, count: int, numbers: Sequence[int]) -> Chosen:
    found = sorted({each for each in numbers if each < count})
    missing = [str(each) for each in numbers if each >= count]
    return Chosen(tuple(found), _missing(selection, missing))


def _all_alike(identities: Sequence[Identity | None]) -> bool:
    return len({each.name for each in identities if each}) <= 1


def _by_identity(selection: Selection, identities: Sequence[Identity | None]) -> Chosen:
    found = {each for each in selection.numbers() if each < len(identities)}
    missing = [str(n) for n in selection.numbers() if n >= len(identities)]
    for name in selection.names():
        matching = [i for i, each in enumerate(identities) if _is(each, name)]
        found.update(matching)
        if not matching:
            missing.append(name)
    if missing:
        # One that does not answer may be the one that is missing.
        found.update(i for i, each in enumerate(identities) if each is None)
    return Chosen(tuple(sorted(found)), _missing(selection, missing))


def _is(identity: Identity | None, name: str) -> bool:
    if identity is None:
        return False
    uuids = (identity.uuid, *identity.instances)
    return any(uuid.lower().startswith(name) for uuid in uuids)


def _missing(selection: Selection, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{selection.source}: the driver lists no GPU {n}" for n in names)

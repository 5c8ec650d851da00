"""The entry of a reducer in the table: how it is built, shown and scheduled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from router.jobs.reducers.protocols import Reducer
from router.jobs.reducers.spec import Spec


@dataclass(frozen=True, slots=True)
class ReducerKind:
    """An entry of the table of reducers.

    build:   makes the reducer of a job with so many items; raises ReducerError
    title, about: its name and explanation in the form
    fields:  terms that it takes beside the kind
    samples: how many items each row becomes
    wave:    the wave that an item runs in; lower ones first
    first:   whether the first partial result waits for the item of this index
    """

    build: Callable[[Spec, int], Reducer]
    title: str
    about: str
    fields: tuple[str, ...] = ()
    samples: Callable[[Spec], int] = lambda _spec: 1
    wave: Callable[[Spec, int], int] = lambda _spec, _index: 0
    first: Callable[[Spec, int], bool] = lambda _spec, _index: False

"""A job's items that this router has leased and that wait for a slot; pure."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from router.jobs.model import Backlog, Item, ItemKind, Pending

_BYTES_PER_TOKEN = 4


@dataclass(slots=True, eq=False)
class LeasedItem:
    """A leased item; times in monotonic seconds.

    not_before: when it may start
    begun:      whether it was sent to a node before
    home_until: how long its last node is assumed to have its text in the cache
    """

    item: Item
    pending: Pending
    not_before: float = 0.0
    begun: bool = False
    home_until: float = 0.0

    @property
    def order(self) -> tuple[bool, int, float, int]:
        """Merges first: much waits for them; then by wave, then the heaviest."""
        item = self.item
        return (item.kind is not ItemKind.MERGE, item.wave, -item.weight, item.id)

    def failed_on(self, node: str, not_before: float) -> None:
        self.item = replace(self.item, tries=self.item.tries + 1)
        self.pending = replace(self.pending, avoid=self.pending.avoid | {node})
        self.not_before = not_before

    def taken_back(self, node: str, had: float, until: float) -> None:
        """Note a preemption: the node has the text in its cache until then."""
        self.pending = replace(self.pending, had=had, home=node)
        self.home_until = until

    def begins_anew(self) -> None:
        self.pending = replace(self.pending, had=0.0, home="")

    def forgive(self) -> None:
        """Allow every node again, since it failed on all of them."""
        self.pending = replace(self.pending, avoid=frozenset())


def leased_item(item: Item, *, opening: bool = False) -> LeasedItem:
    return LeasedItem(
        item,
        Pending(
            item.id,
            item.job,
            item.model,
            item.weight,
            prompt=item.size / _BYTES_PER_TOKEN,
            opening=opening,
        ),
    )


@dataclass(slots=True)
class LeasedItems:
    """Leased items by model, in the order in which they should run."""

    _by_model: dict[str, list[LeasedItem]] = field(default_factory=dict)
    _by_id: dict[int, LeasedItem] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[LeasedItem]:
        return iter(tuple(self._by_id.values()))

    def count(self, kind: ItemKind, model: str) -> int:
        found = self._by_model.get(model, ())
        return sum(1 for each in found if each.item.kind is kind)

    def add(self, some: Iterable[LeasedItem]) -> None:
        for each in some:
            if each.item.id in self._by_id:
                continue
            self._by_id[each.item.id] = each
            model = self._by_model.setdefault(each.item.model, [])
            insort(model, each, key=lambda h: h.order)

    def take(self, item: int) -> LeasedItem | None:
        """Remove and return an item; None if it is not here."""
        found = self._by_id.pop(item, None)
        if found is None:
            return None
        rest = self._by_model[found.item.model]
        rest.remove(found)
        if not rest:
            del self._by_model[found.item.model]
        return found

    def clear(self) -> list[int]:
        """Remove all items; return their ids."""
        ids = list(self._by_id)
        self._by_id.clear()
        self._by_model.clear()
        return ids

    def models(self) -> Iterator[str]:
        return iter(tuple(self._by_model))

    def ready(self, model: str, now: float) -> list[Pending]:
        """Return the items that may start now, in order."""
        found = self._by_model.get(model, ())
        ready = []
        for each in found:
            if each.pending.home and each.home_until <= now:
                each.pending = replace(each.pending, home="")
            if each.not_before <= now:
                ready.append(each.pending)
        return ready

    def backlogs(self) -> Mapping[str, Backlog]:
        return {
            model: Backlog(len(found), sum(each.item.weight for each in found))
            for model, found in self._by_model.items()
        }

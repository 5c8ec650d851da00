"""Makes requests and items of a dataset's rows and of texts to merge; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from router.jobs.model import DATASET_ENDPOINT, ItemKind, JobSpec, NewItem
from router.jobs.reducers import samples, wave

if TYPE_CHECKING:  # this is loaded in the sandbox, too: only what it needs
    from router.jobs.planning.length_predictor import LengthPredictor

_MERGE = "Merge these partial summaries into one:"
# A merge is short and much waits for it; it runs before rows in any case.
_MERGE_WEIGHT = 256.0


def row_items(
    spec: JobSpec,
    predictor: LengthPredictor,
    row: int,
    size: int,
    *,
    place: int,
    body: bytes,
) -> list[NewItem]:
    """Make the items of a row: one for each sample.

    size:  bytes of its request
    place: where the row is in the file, or what `body` contains
    """
    count = samples(spec.reducer)
    weight = predictor.predict(spec.model, size, _most(spec))
    return [
        NewItem(
            key=item_key(row, sample, count),
            kind=ItemKind.ROW,
            index=row * count + sample,
            custom_id="",
            endpoint=DATASET_ENDPOINT,
            model=spec.model,
            body=body,
            weight=weight,
            wave=wave(spec.reducer, row * count + sample),
            place=place,
            size=size,
        )
        for sample in range(count)
    ]


def item_key(row: int, sample: int, count: int) -> str:
    """Return an item's key: its row, and its sample if there are several."""
    return str(row) if count == 1 else f"{row}.{sample}"


def merge_item(spec: JobSpec, key: str, group: int, texts: Sequence[str]) -> NewItem:
    """Make the item that merges `texts`, in their order."""
    asked = spec.reducer.get("prompt")
    head = asked if isinstance(asked, str) and asked else _MERGE
    parts = [f"[{n}]\n{text}" for n, text in enumerate(texts, 1)]
    body = request(spec, "\n\n".join([head, *parts]), 0)
    return NewItem(
        key=key,
        kind=ItemKind.MERGE,
        index=group,
        custom_id="",
        endpoint=DATASET_ENDPOINT,
        model=spec.model,
        body=body,
        weight=_MERGE_WEIGHT,
        size=len(body),
    )


def request(spec: JobSpec, prompt: str, sample: int) -> bytes:
    """Return the body of a request for a sample of a prompt's answer."""
    messages = [{"role": "user", "content": prompt}]
    if spec.system:
        messages.insert(0, {"role": "system", "content": spec.system})
    fields: dict[str, Any] = {
        "model": spec.model,
        "messages": messages,
        "stream": False,
    }
    options = _options(spec.options, sample)
    if options:
        fields["options"] = options
    return orjson.dumps(fields)


def _options(options: Mapping[str, object], sample: int) -> dict[str, object]:
    """Give each sample a seed of its own, if the job has a seed."""
    seed = options.get("seed")
    if sample and isinstance(seed, int):
        return {**options, "seed": seed + sample}
    return dict(options)


def _most(spec: JobSpec) -> int | None:
    most = spec.options.get("num_predict")
    return most if isinstance(most, int) and most > 0 else None

"""Who pays for a model's load on a node that holds nothing: all who would gain by it.

A node that comes back cold never looks quickest while another has a free slot, since
one request would have to wait for the whole load. See `router.capacity.load_time`.
"""

from __future__ import annotations

from router.capacity.ledger import Ledger
from router.scheduling.pipeline import Decision, size_of


def note(ledger: Ledger, model: str, decision: Decision) -> None:
    """Add up what the picked request would have gained on the best cold node."""
    picked, best = decision.picked, None
    for each in decision.candidates:
        if each.view.resident is not None and not each.view.resident:
            if each is picked:
                ledger.missed.pay((each.name, model))
                return
            if best is None or each.expected_seconds < best.expected_seconds:
                best = each
    if picked is None or best is None or ledger.in_flight(best.name):
        return
    size = size_of(best.view, model)
    price = ledger.load_price(best.name, model, size, False)
    gain = picked.expected_seconds - (best.expected_seconds - price)
    if gain > 0:
        ledger.missed_gain(best.name, model, gain)

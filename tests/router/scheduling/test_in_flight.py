"""What runs on a node, and since when."""

from __future__ import annotations

from router.capacity.ledger import Ledger
from router.model import Node, Outcome
from router.scheduling.in_flight import InFlight
from router.scheduling.request import PendingRequest, RoutingRequest


def test_ages():
    """A wait in the queue is none of the time for which a slot is held."""
    time = [100.0]
    ledger, in_flight = Ledger(4, lambda: time[0]), InFlight()
    ledger.configure([Node("a", "http://a:11434")])
    assert (0.0, 0.0) == in_flight.ages("a", 100.0)

    leases = []
    for at, waited in ((100.0, 70.0), (102.0, 30.0)):
        time[0] = at
        leases.append(ledger.take("a", "m:1"))
        asking = PendingRequest(RoutingRequest("m:1"), since=at - waited)
        in_flight.begin(leases[-1], asking, 0.0)
    assert (50.0, 4.0) == in_flight.ages("a", 105.0)

    leases[0].done(Outcome.END)
    in_flight.end(leases[0])
    assert (30.0, 3.0) == in_flight.ages("a", 105.0)

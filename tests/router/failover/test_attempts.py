"""A request goes from node to node while that helps, and stops where it cannot."""

from __future__ import annotations

import pytest

from router.errors import (
    EndsRunnersError,
    MaybeSentError,
    NotSentError,
    OtherBuildError,
    RefusedError,
    RouteMissingError,
    UnavailableError,
)
from router.failover.findings import Aboard
from router.model import Cause, Hold, HoldKind, Node, Outcome
from tests.router.failover.stage import ERRORS, MODEL, Fleet, Running


@pytest.mark.parametrize("answer", ["gpu", "denied", "boom", "reset", "died", "long"])
def test_a_failing_node_costs_no_request(answer):
    """Twelve requests, one bad node: all are answered, three attempts are lost at most.

    It is asked again only as far as it looks quicker than what has answered since.
    """
    fleet = Fleet()
    fleet.answers["a"] = answer
    answered = [fleet.ask() for _ in range(12)]
    assert {"b", "c"} >= set(answered)
    if answer == "long":  # it says nothing of the node: short ones may go there
        assert [] == fleet.open_on()
        return
    assert 1 <= fleet.asked.count("a") <= 3
    assert ["a"] == fleet.open_on() or fleet.asked.count("a") < 3


def test_no_budget_is_needed_while_a_node_is_well():
    """With the budget at nothing, five bad nodes are passed over for the sixth."""
    fleet = Fleet("abcdef", budget=0)
    for name in "abcde":
        fleet.answers[name] = "gpu"
    assert ["f"] * 8 == [fleet.ask() for _ in range(8)]
    assert all(fleet.asked.count(name) <= 3 for name in "abcde")


def test_a_fleet_that_fails_is_bounded():
    """Where every node has failed before, the budget and the attempts bound retries."""
    fleet = Fleet("abcdef", budget=0)
    for name in fleet.answers:
        fleet.answers[name] = "gpu"
    for _ in range(5):
        with pytest.raises(RefusedError):
            fleet.ask()
    fleet.asked.clear()
    with pytest.raises(RefusedError):
        fleet.ask()
    assert 2 == len(fleet.asked), "the first retry is free, no other"


def test_open_circuits_never_empty_the_fleet():
    """When all are open a request is tried all the same: it is a trial."""
    fleet = Fleet("a")
    fleet.answers["a"] = "gpu"
    for _ in range(4):
        with pytest.raises(RefusedError):
            fleet.ask()
    assert ["a"] == fleet.open_on()
    fleet.answers["a"] = "ok"
    assert "a" == fleet.ask()
    assert [] == fleet.open_on()


def test_two_nodes_that_agree_blame_the_request():
    """Unknown words from two of one build are the request's: no node is charged."""
    fleet = Fleet()
    assert ["a"] * 3 == [fleet.ask() for _ in range(3)]
    fleet.answers = dict.fromkeys("abc", "boom")
    fleet.asked.clear()
    with pytest.raises(RefusedError, match="boom"):
        fleet.ask()
    assert ["a", "b"] == fleet.asked
    assert frozenset() == fleet.circuits.troubled


def test_a_flood_of_bad_requests_opens_nothing():
    """However many bad requests come, good ones are served by every node."""
    fleet = Fleet()
    for name in "abc":
        fleet.answers[name] = "boom"
    for _ in range(20):
        with pytest.raises(RefusedError):
            fleet.ask()
    assert [] == fleet.open_on()
    fleet.answers = dict.fromkeys("abc", "ok")
    assert "a" == fleet.ask()


def test_two_that_always_fail_are_no_witnesses():
    """Two nodes that say the same to everybody do not convict what a third can do."""
    fleet = Fleet("abc", budget=10)
    fleet.answers.update(a="boom", b="boom")
    with pytest.raises(RefusedError):
        fleet.ask()  # who could know
    fleet.asked.clear()
    fleet.answers["a"] = fleet.answers["b"] = "gpu"
    assert "c" == fleet.ask()
    fleet.answers["a"] = fleet.answers["b"] = "boom"
    assert "c" == fleet.ask()
    assert ["a", "b", "c"] == fleet.asked[:3]


def test_other_builds_are_no_witnesses():
    """Two nodes of two builds that say the same prove nothing of the third."""
    fleet = Fleet("abc", budget=10, digests={"b": "d2"})
    fleet.answers.update(a="boom", b="boom")
    assert "c" == fleet.ask()


def test_another_build_is_asked():
    """Who cannot do it by its build is passed over, with all of that build."""
    fleet = Fleet("abc", digests={"c": "d2"})
    fleet.answers.update(a="tools", b="tools")
    call = fleet.call()
    call.findings.refused.add(("d1", "0.17.4"))
    assert "c" == fleet.ask(call)
    assert ["a", "c"] == fleet.asked
    assert frozenset() == fleet.circuits.troubled


def test_the_first_builds_words_are_given_out():
    """Where the other build fails, the client hears what the first one said."""
    fleet = Fleet("ab", digests={"b": "d2"})
    fleet.answers.update(a="tools", b="gpu")
    call = fleet.call()
    call.findings.refused.add(("d1", "0.17.4"))
    with pytest.raises(OtherBuildError):
        fleet.ask(call)


def test_a_node_that_cannot_be_reached_is_held_at_once():
    """It costs one attempt of one request, and no try of anybody."""
    fleet = Fleet()
    fleet.answers["a"] = "refused"
    assert ["b"] * 3 == [fleet.ask() for _ in range(3)]
    assert 1 == fleet.asked.count("a")
    assert ["traffic"] == [hold.source for hold in fleet.holds.of("a")]


def test_an_answer_does_not_wait_for_a_node_that_is_off():
    """Where a node has answered, however badly, nobody waits for one that is down."""
    fleet = Fleet("ab")
    fleet.dispatcher.down_wait_seconds = 60.0
    fleet.holds.place(Hold("b", HoldKind.DOWN, "probe", "no route", 0.0))
    fleet.answers["a"] = "boom"
    with pytest.raises(RefusedError, match="boom"):
        fleet.ask()


def test_the_only_witness_is_believed():
    """Unknown words of the only node are charged to nobody: who could tell."""
    fleet = Fleet("a")
    fleet.answers["a"] = "boom"
    for _ in range(5):
        with pytest.raises(RefusedError):
            fleet.ask()
    assert [] == fleet.open_on()


def test_all_unreachable():
    """Without a wait for their return the last failure is told."""
    fleet = Fleet()
    fleet.answers = dict.fromkeys("abc", "refused")
    with pytest.raises(NotSentError):
        fleet.ask()
    with pytest.raises(UnavailableError):
        fleet.ask()


def test_a_request_that_ends_runners_is_stopped_at_the_second():
    """It does not go to the third node, nor does its repetition to any."""
    fleet = Fleet("abcd")
    fleet.answers = dict.fromkeys("abcd", "died")
    with pytest.raises(EndsRunnersError, match="ended the model's runner"):
        fleet.ask(fleet.call(b'{"prompt":"poison"}'))
    assert (["a", "b"], ["b"]) == (fleet.asked, fleet.tried)
    with pytest.raises(EndsRunnersError):
        fleet.ask(fleet.call(b'{"stream":false,"prompt":"poison"}'))
    assert ["a", "b"] == fleet.asked
    assert frozenset() == fleet.circuits.troubled, "no node is charged with it"
    fleet.answers = dict.fromkeys("abcd", "ok")
    assert "a" == fleet.ask(fleet.call(b'{"prompt":"harmless"}'))


def test_broken_nodes_do_not_convict_a_request():
    """Where the second node cannot generate for the router either, it is at fault."""
    fleet = Fleet()
    fleet.answers.update(a="died", b="died")
    fleet.trial_fails = {"b"}
    assert "c" == fleet.ask()
    assert not fleet.offenders or fleet.ask()


@pytest.mark.parametrize("answer", ["gone", "reset"])
@pytest.mark.parametrize("back", [False, True], ids=["both gone", "the first is back"])
def test_a_request_that_ends_servers(answer, back):
    """Two servers that are gone cannot be tried: that is proof enough."""
    fleet = Fleet("abcd")
    fleet.answers = dict.fromkeys("abcd", answer)
    fleet.gone = set("b" if back else "ab")
    with pytest.raises(EndsRunnersError):
        fleet.ask()
    assert ["a", "b"] == fleet.asked


def test_a_server_that_hangs_before_it_goes():
    """Who was moved off a node that went down under it is a suspect, too."""
    fleet = Fleet("abc")
    fleet.answers.update(a="hangs", b="reset", c="reset")
    fleet.gone = {"a", "b"}
    with pytest.raises(EndsRunnersError):
        fleet.ask()
    assert ["a", "b"] == fleet.asked


def test_who_is_moved_off_a_drained_node_is_no_suspect():
    """Only a node that went down may have been ended."""
    fleet = Fleet("ab")
    fleet.answers["a"] = "moved"
    call = fleet.call()
    assert "b" == fleet.ask(call)
    assert not call.findings.suspect


def test_a_server_that_is_about_to_go():
    """One that still closes connections is looked at again until it has gone."""
    fleet = Fleet("abc")
    fleet.answers = dict.fromkeys("abc", "reset")
    fleet.gone, fleet.going = {"a"}, {"b"}
    with pytest.raises(EndsRunnersError):
        fleet.ask()
    assert ["a", "b"] == fleet.asked


def test_a_stream_whose_servers_die_is_innocent():
    """What was answering when the first one died goes on after the second."""
    fleet = Fleet("abc")
    fleet.answers.update(a="reset")
    fleet.gone = {"a"}
    call = fleet.call()
    call.findings.died("gone", answering=True)
    assert "b" == fleet.ask(call)


def test_a_reset_without_death_is_the_nodes():
    """A proxy that closes connections is tried, and blamed."""
    fleet = Fleet()
    fleet.answers.update(a="reset", b="reset")
    fleet.trial_fails = {"b"}
    assert "c" == fleet.ask()


def test_the_only_node_is_asked_once_more():
    """Ollama starts another runner by itself."""
    fleet = Fleet("a")
    fleet.answers["a"] = ["died", "ok"]
    assert "a" == fleet.ask()
    assert ["a", "a"] == fleet.asked


def test_a_suspect_is_sent_where_it_ends_nobody():
    """After a death an idle node is preferred, else one whose streams can move."""
    fleet = Fleet("abc")
    fleet.answers["a"] = "died"
    lease = fleet.ledger.take("b", MODEL)
    lease.reply = Running(movable=False)
    assert "c" == fleet.ask()
    other = fleet.ledger.take("c", MODEL)
    other.reply = Running(movable=True)
    fleet.answers["a"] = "died"
    assert "c" == fleet.ask()


def test_a_suspect_stays_where_others_would_be_lost():
    """Where every other node has a stream that could not move, it stays alone."""
    fleet = Fleet("ab")
    fleet.answers["a"] = ["died", "died"]
    lease = fleet.ledger.take("b", MODEL)
    lease.reply = Running(movable=False)
    with pytest.raises(EndsRunnersError):
        fleet.ask()
    assert ["a", "a"] == fleet.asked


def test_a_suspect_waits_where_others_are_just_busy():
    """It does not go back to where it failed because the rest is full."""
    fleet = Fleet("ab", slots=1)
    call = fleet.call()
    call.findings.died("gone", answering=False)
    fleet.ledger.take("b", MODEL).reply = Running(movable=False)
    routing = call.routing._replace(tried=frozenset("a"))
    assert routing == fleet.isolation.place(routing, call.findings, "a")


def suspect(fleet, node, body):
    """A request that was on a runner that died, on its way on another node."""
    call = fleet.call(body)
    call.findings.died("gone", answering=False)
    lease = fleet.ledger.take(node, MODEL)
    fleet.isolation.board(lease, call.findings)
    return call, lease


def blame(fleet, call, lease):
    """Its runner died: the slot is given back before anybody is blamed."""
    lease.done(Outcome.REFUSED)
    aboard = Aboard(Node(lease.node, "http://x:1"), MODEL, "/api/chat")
    fleet.isolation.blame(lease, aboard, call.findings, ERRORS["abandoned"](lease.node))


@pytest.mark.parametrize("answering", [False, True])
def test_one_node_is_no_second_witness_while_others_are_busy(answering):
    """Who dies there again is asked elsewhere, if there is anything else."""
    for names, node in (("ab", "b"), ("a", "a")):
        fleet = Fleet(names, slots=1)
        call, lease = fleet.call(), fleet.ledger.take("a", MODEL)
        if "b" in names:
            fleet.ledger.take("b", MODEL)
        fleet.isolation.board(lease, call.findings)
        lease.decoding_since = fleet.now if answering else None
        lease.done(Outcome.EOF)
        if "b" in names:
            blame(fleet, call, fleet.ledger.take("a", MODEL))
        assert ([], 1) == (fleet.tried, call.findings.deaths)
        with pytest.raises(EndsRunnersError):
            blame(fleet, call, fleet.ledger.take(node, MODEL))


def test_suspects_that_die_together_are_not_told_apart():
    """Neither is refused, whoever hears of it first; the next death alone tells."""
    fleet = Fleet("abc")
    both = [suspect(fleet, "a", body) for body in (b"poison", b"innocent")]
    for call, lease in both:
        fleet.now += 0.01
        blame(fleet, call, lease)
    assert [1, 1] == [call.findings.deaths for call, _ in both]
    fleet.now += 0.01
    poison, _ = both[0]
    lease = fleet.ledger.take("b", MODEL)
    with pytest.raises(EndsRunnersError):
        blame(fleet, poison, lease)


def test_who_came_fresh_is_no_excuse():
    """A request whose first death it is ended nobody's runner before."""
    fleet = Fleet("abc")
    poison, lease = suspect(fleet, "a", b"poison")
    beside = fleet.call(b"innocent")
    blame(fleet, beside, fleet.ledger.take("a", MODEL))
    with pytest.raises(EndsRunnersError):
        blame(fleet, poison, lease)


def test_suspects_are_kept_apart():
    """A node with a stream that can move is preferred: blame would be shared."""
    fleet = Fleet("abc")
    suspect(fleet, "a", b"other")
    for node in "bc":
        fleet.ledger.take(node, MODEL).reply = Running(movable=True)
    call = fleet.call()
    call.findings.died("gone", answering=False)
    routing = fleet.isolation.place(call.routing, call.findings, "c")
    assert frozenset("a") == routing.spared


def test_a_request_that_was_answered_is_cleared():
    """What died once and was then answered is no offender."""
    fleet = Fleet()
    fleet.answers["a"] = "died"
    call = fleet.call()
    assert "b" == fleet.ask(call)
    assert 1 == call.findings.deaths
    fleet.isolation.settle(call.findings, None)
    assert not fleet.offenders


def test_answers_that_break_off_on_each_retry():
    """A stream that cannot be continued and ends its runner three times is known."""
    fleet = Fleet()
    for n in range(3):
        call = fleet.call(b'{"tools":[],"prompt":"poison"}')
        fleet.isolation.admit(call.findings)
        assert (n > 0) is call.findings.suspect
        lease = fleet.ledger.take("a", MODEL)
        fleet.isolation.board(lease, call.findings)
        lease.decoding_since = fleet.now
        lease.done(Outcome.ERROR_LINE)
        fleet.failover.course.settle(call, "a", Outcome.ERROR_LINE)
    with pytest.raises(EndsRunnersError):
        fleet.isolation.admit(fleet.call(b'{"tools":[],"prompt":"poison"}').findings)


def test_cordoned_nodes_are_not_asked_as_a_last_resort():
    """An open circuit may be tried, what a person holds may not."""
    fleet = Fleet("ab")
    fleet.holds.place(Hold("b", HoldKind.CORDON, "operator:x", "service", 0.0))
    fleet.answers["a"] = "gpu"
    for _ in range(4):
        with pytest.raises((RefusedError, MaybeSentError)):
            fleet.ask()
    assert set("a") == set(fleet.asked)


def test_what_was_charged_is_told_once():
    """A failure that `take` has charged is not charged again."""
    fleet = Fleet()
    fleet.answers["a"] = "gpu"
    fleet.ask()
    assert {("a", Cause.GPU_ERROR): 1} == fleet.circuits.failures


def test_a_release_without_the_route_is_not_blamed():
    """It is asked once by all, no circuit hears of it, and it takes no attempt."""
    fleet = Fleet("abcdef", budget=0)
    fleet.lack_the_route("abcde")
    assert ["f"] * 3 == [fleet.ask() for _ in range(3)]
    assert 1 >= fleet.asked.count("a")
    assert [] == list(fleet.circuits.shown())


def test_a_route_that_no_release_has():
    """The client is told so, whichever was asked."""
    fleet = Fleet("ab")
    fleet.lack_the_route("ab")
    for _ in range(2):
        with pytest.raises(RouteMissingError):
            fleet.ask()


def test_those_on_a_dead_runner_need_no_budget():
    """They did nothing: they go on elsewhere, and one death is two failures at most."""
    fleet = Fleet("abc", budget=0)
    fleet.answers["a"] = "abandoned"
    began = [fleet.ledger.take("a", MODEL) for _ in range(3)]
    calls = [fleet.call(bytes([n])) for n in range(4)]
    assert all(fleet.ask(call) in "bc" for call in calls[:2])
    assert 3 == len(began)
    assert [] == fleet.open_on()


def test_nobody_else_is_free():
    """Where a runner died, its node is asked again before a busy one is waited for."""
    fleet = Fleet("ab")
    fleet.answers["a"] = ["abandoned", "ok"]
    taken = [fleet.ledger.take("b", MODEL) for _ in range(4)]
    assert "a" == fleet.ask()
    assert ["a", "a"] == fleet.asked
    assert 4 == len(taken)


def test_a_build_that_refuses_is_spared():
    """Once another has answered; alone it is asked, for want of a better one."""
    fleet = Fleet("ab", digests={"b": "d2"})
    body = b'{"tools":[],"prompt":"x"}'
    fleet.failover.course._builds.refusals.learn(MODEL, body, [("d1", "0.17.4")])
    taken = fleet.ledger.take("b", MODEL)
    assert ["b"] * 3 == [fleet.ask(fleet.call(body)) for _ in range(3)]
    assert "a" == fleet.ask(fleet.call(b'{"prompt":"x"}'))
    fleet.holds.place(Hold("b", HoldKind.CORDON, "operator:x", "service", 0.0))
    assert "a" == fleet.ask(fleet.call(body))
    taken.done(Outcome.END)

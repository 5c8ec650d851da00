"""Limits: windows of the clock, who they hold for, what a restart keeps."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest

from router.access.limits import (
    EVERYONE,
    HeldLimits,
    KeyLimits,
    LimitMeter,
    LimitRules,
    LimitStatus,
    LimitWindow,
)
from router.access.principal import Principal, anonymous
from router.access.quota import Quotas
from router.errors import ContextLimitError, RateLimitedError

ALICE = Principal("key:k-1", "alice", tags=("staff",), key="k-1")
NOON = datetime(2026, 12, 31, 12, 0, 10, tzinfo=UTC).timestamp()


def held(subject: str, limits: KeyLimits) -> HeldLimits:
    """Return limits that hold for one subject alone."""
    return HeldLimits(((subject, limits),))


def test_windows_are_the_clocks():
    """A month is as long as it is."""
    assert NOON - 10 == LimitWindow.MINUTE.begin(NOON)
    assert 86_400 == LimitWindow.DAY.end(0)
    december = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
    january = datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    assert (december, january) == (
        LimitWindow.MONTH.begin(NOON),
        LimitWindow.MONTH.end(int(december)),
    )


def test_who_limits_hold_for():
    """A key's own, its tags', and everybody's; only those that limit something."""
    own, tag, all_ = (KeyLimits(requests_per_day=n) for n in (1, 2, 3))
    rules = LimitRules({"k-1": own}, {"staff": tag, "other": tag}, all_)
    expected = (("key:k-1", own), ("tag:staff", tag), (EVERYONE, all_))
    assert expected == rules.of(ALICE).limits == rules.of(ALICE).limits
    assert ((EVERYONE, all_),) == rules.of(anonymous("10.0.0.1")).limits
    assert not LimitRules({"k-2": own}, {}).of(ALICE)


def test_requests_of_a_minute():
    """The one too many waits for the next minute."""
    meter, limits = LimitMeter(), held("key:a", KeyLimits(requests_per_minute=2))
    for _ in range(2):
        assert meter.exceeded(limits, NOON) is None
        meter.let_in(limits, NOON)
    found = meter.exceeded(limits, NOON)
    assert found is not None
    assert ("requests_per_minute", 2, 50) == (
        found.name,
        found.most,
        found.retry_after_seconds,
    )
    assert [LimitStatus("requests", 2, 0, 50)] == meter.usage(limits, NOON)
    assert meter.exceeded(limits, NOON + 50) is None
    assert [LimitStatus("requests", 2, 2, 60)] == meter.usage(limits, NOON + 50)


def test_tokens_count_at_the_end():
    """What is under way goes on; the next is refused. The longest wait is told."""
    meter = LimitMeter()
    limits = held("key:a", KeyLimits(tokens_per_minute=10, tokens_per_day=10))
    ticket = meter.let_in(limits, NOON)
    assert meter.exceeded(limits, NOON) is None
    meter.end(ticket, 11, NOON)
    meter.end(ticket, 11, NOON)  # counted once
    found = meter.exceeded(limits, NOON)
    assert found is not None
    assert ("tokens_per_day", 43_190) == (found.name, found.retry_after_seconds)
    assert {11} == {count for *_, what, _, _, count in _rows(meter) if what == "tokens"}


def _rows(meter):
    return [(s, w, win, b, c) for s, w, win, b, c in meter.changed()]


def test_requests_at_one_time():
    """Each that ends makes room."""
    meter, limits = LimitMeter(), held("tag:t", KeyLimits(concurrent_requests=1))
    ticket = meter.let_in(limits, NOON)
    found = meter.exceeded(limits, NOON)
    assert found is not None
    assert ("tag:t", "concurrent_requests") == (found.subject, found.name)
    meter.end(ticket, 0, NOON)
    assert meter.exceeded(limits, NOON) is None


def test_the_least_cap_of_an_answer():
    """Of a key, its tags and everybody."""
    limits = HeldLimits(
        (("a", KeyLimits(max_output_tokens=9)), ("b", KeyLimits(max_output_tokens=5)))
    )
    assert (5, None) == (limits.max_output_tokens, limits.max_context_tokens)


@pytest.fixture
def quotas(tmp_path):
    """Make quotas over the same folder again and again, as restarts do."""
    rules = LimitRules({"k-1": KeyLimits(requests_per_day=3, tokens_per_day=100)}, {})

    def make(mode: str = "enforce") -> Quotas:
        return Quotas(tmp_path, lambda: rules, lambda: mode == "shadow", lambda: NOON)

    return make


def test_counts_outlive_a_restart(quotas):
    """Exactly as they were, however often they are saved."""
    first = quotas()
    ticket = first.let_in(ALICE)
    assert ticket is not None
    first.end(ticket, 40)
    for _ in range(3):
        first.save()
    second = quotas()
    expected = [("requests", 2), ("tokens", 60)]
    assert expected == [(each.what, each.left) for each in second.usage(ALICE)]
    for _ in range(2):
        second.let_in(ALICE)
    second.save()
    with pytest.raises(RateLimitedError, match="may have 3 requests per day"):
        quotas().let_in(ALICE)


def test_nothing_is_kept_without_limits(quotas, tmp_path):
    """Who has no limit costs no disk."""
    assert quotas().let_in(anonymous("10.0.0.1")) is None
    quotas().save()
    assert [] == list(tmp_path.iterdir())


def test_shadow_refuses_nothing(quotas):
    """It counts what would have been refused, and tells clients nothing."""
    shadow = quotas("shadow")
    for _ in range(5):
        assert shadow.let_in(ALICE)
    assert {("key", "requests_per_day", "shadow"): 2} == dict(shadow.exceeded)
    assert [] == shadow.usage(ALICE)


def test_a_disk_that_takes_nothing(quotas, tmp_path):
    """Limits hold all the same, and what was not saved is, later."""
    (tmp_path / "limits.sqlite").mkdir()
    first = quotas()
    for _ in range(3):
        first.let_in(ALICE)
    first.save()
    with pytest.raises(RateLimitedError):
        first.let_in(ALICE)
    (tmp_path / "limits.sqlite").rmdir()
    first.save()
    assert 0 == quotas().usage(ALICE)[0].left


def test_energy_and_money():
    """Counted in small parts, as they come; whoever is beyond is refused."""
    meter, day = LimitMeter(), NOON - 5 * 86_400
    limits = held("key:a", KeyLimits(joules_per_day=2, cost_per_month=0.5))
    for _ in range(3):
        assert meter.exceeded(limits, day) is None
        meter.charge(limits, {"joules": 0.7, "cost": 0.001}, day)
    found = meter.exceeded(limits, day)
    assert found is not None
    assert ("joules_per_day", 2) == (found.name, found.most)
    meter.charge(limits, {"cost": 0.4969}, day)
    assert meter.exceeded(limits, day + 86_400) is None
    meter.charge(limits, {"cost": 0.0001}, day)
    found = meter.exceeded(limits, day + 86_400)
    assert found is not None
    assert ("cost_per_month", 0.5) == (found.name, found.most)
    assert [] == meter.usage(limits, day)


def test_items_of_jobs():
    """Those that run count ahead; requests are not items, nor items requests."""
    meter = LimitMeter()
    own = KeyLimits(job_items_per_day=3, requests_per_day=1, tokens_per_day=50)
    limits = held("key:a", own)
    meter.let_in(limits, NOON)
    assert meter.item_exceeded(limits, 2, NOON) is None
    found = meter.item_exceeded(limits, 3, NOON)
    assert found is not None
    assert "job_items_per_day" == found.name
    meter.charge(limits, {"job_items": 1, "tokens": 50}, NOON)
    found = meter.item_exceeded(limits, 0, NOON)
    assert found is not None
    assert "tokens_per_day" == found.name
    exceeded = meter.exceeded(limits, NOON)
    assert exceeded is not None
    assert "requests_per_day" == exceeded.name


@pytest.fixture
def of_alice(tmp_path):
    """Quotas that know who has an id, as jobs and meters name it."""
    own = KeyLimits(max_context_tokens=10, job_items_per_day=1, joules_per_day=5)
    tag = KeyLimits(max_context_tokens=20, cost_per_day=1.0)
    rules = LimitRules({"k-1": own}, {"staff": tag})

    def make(mode: str = "enforce") -> Quotas:
        return Quotas(
            tmp_path,
            lambda: rules,
            lambda: mode == "shadow",
            lambda: NOON,
            lambda name: ALICE if name == ALICE.id else Principal(name, name),
        )

    return make


def test_what_is_used_without_a_request(of_alice):
    """Counts by the id of who made a job, also after a restart; in shadow as well."""
    quotas = of_alice()
    assert quotas.item_refused("key:k-1", lambda _: 0) is None
    quotas.charge("key:k-1", job_items=1.0)
    quotas.charge("key:unknown", job_items=1.0, joules=9.0)
    quotas.save()
    again = of_alice()
    why = again.item_refused("key:k-1", lambda _: 0)
    assert why is not None
    assert why.startswith("limit reached: this API key may have 1 job items per day")
    assert of_alice("shadow").item_refused("key:k-1", lambda _: 0) is None
    again.charge("key:k-1", cost=1.0, joules=4.9)
    with pytest.raises(
        RateLimitedError, match="keys like this one may have 1 cost per"
    ):
        again.let_in(ALICE)


def test_a_prompt_that_is_too_long(of_alice):
    """Refused by the least of its limits; in shadow it is counted."""
    quotas = of_alice()
    ticket = quotas.let_in(ALICE)
    assert ticket is not None
    quotas.check_context(ticket, 10)
    with pytest.raises(ContextLimitError, match="about 11 tokens, and this API key"):
        quotas.check_context(ticket, 11)
    shadow = of_alice("shadow")
    shadow.check_context(ticket, 11)
    assert (True, False) == (quotas.caps, shadow.caps)
    assert {("key", "max_context_tokens", "shadow"): 1} == shadow.exceeded


@pytest.mark.parametrize(("mode", "heard"), [("enforce", ["key:k-1"]), ("shadow", [])])
def test_refusals_are_heard(quotas, mode, heard):
    """The scheduler hears who asks for more than it may; never in shadow mode."""
    made = quotas(mode)
    refused: list[str] = []
    made.refused = refused.append
    for _ in range(3):
        made.let_in(ALICE)
    assert [] == refused
    with contextlib.suppress(RateLimitedError):
        made.let_in(ALICE)
    assert heard == refused

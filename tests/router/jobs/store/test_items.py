"""Items: leased once, ended once, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

import gevent

from router.jobs.model import (
    CANCELLED,
    BadLines,
    Counts,
    ItemFault,
    ItemKind,
    ItemState,
    JobState,
    Preemption,
    ResultPage,
    Span,
    TimeWindow,
)
from router.jobs.store import items, jobs, results
from tests.router.jobs.store.stage import (
    BAD,
    JOB,
    MODEL,
    PLACE,
    a_job,
    filled,
    item,
    result,
)

EVERY = tuple(ItemState)


def lease(database, owner="me", limit=3, until=1e12, place=PLACE):
    return database.write(lambda c: items.lease(c, owner, until, place, limit))


def counts(database):
    return database.read(lambda c: items.counts(c, JOB))[0]


def finish(database, made):
    return database.write(lambda c: items.finish(c, JOB, made))


class TestLeases:
    """Who has an item in hand, and until when."""

    def test_the_heaviest_of_the_first_wave_go_first(self, database):
        """Waves order before weights."""
        database.write(lambda c: jobs.add(c, a_job(), "me", 1e12))
        some = [item(n, weight=float(n), wave=n // 4) for n in range(8)]
        database.write(lambda c: items.add(c, JOB, some, 1.0))
        assert ["3", "2", "1", "0", "7", "6"] == [
            each.key for each in sorted_by_turn(lease(database, limit=6))
        ]

    def test_what_is_leased_is_not_leased_again(self, database):
        """Two who lease get different items, until none is left."""
        filled(database, 10)
        taken = [each.key for who in ("me", "you") for each in lease(database, who, 4)]
        taken += [each.key for each in lease(database, "me", 4)]
        assert 10 == len(taken) == len(set(taken))
        assert Counts(leased=10) == counts(database)

    def test_a_lease_that_ran_out_waits_again(self, database):
        """Only those past their time; nothing counts as a try."""
        filled(database, 4)
        old, fresh = lease(database, until=10.0, limit=2), lease(database, until=99.0)
        assert 2 == database.write(lambda c: items.reclaim(c, [JOB], 50.0))
        again = lease(database, "you", 9)
        assert {each.id for each in old} == {each.id for each in again}
        assert not {each.id for each in fresh} & {each.id for each in again}
        assert {0} == {each.tries for each in again}

    def test_a_renewed_lease_lasts(self, database):
        """Renewing is for the owner alone."""
        filled(database, 2)
        ids = [each.id for each in lease(database, until=10.0)]
        database.write(lambda c: items.renew(c, "you", ids[:1], 99.0))
        database.write(lambda c: items.renew(c, "me", ids[1:], 99.0))
        assert 1 == database.write(lambda c: items.reclaim(c, [JOB], 50.0))

    def test_only_the_owner_gives_back(self, database):
        """What was taken over by another is not ours to give."""
        filled(database, 2)
        ids = [each.id for each in lease(database, "you")]
        database.write(lambda c: items.give_back(c, "me", ids))
        assert 0 == counts(database).waiting
        database.write(lambda c: items.give_back(c, "you", ids))
        assert 2 == counts(database).waiting

    def test_tries_are_kept(self, database):
        """A failed try is known to the next router."""
        filled(database, 1)
        (first,) = lease(database)
        database.write(lambda c: items.count_try(c, first.id, 2))
        database.write(items.reclaim_all)
        assert [2] == [each.tries for each in lease(database)]


class TestResults:
    """Each item ends once."""

    def test_the_first_result_stands(self, database):
        """A second one is refused, and changes nothing."""
        filled(database, 1)
        lease(database)
        assert finish(database, result(0, "one"))
        assert not finish(database, result(0, "two"))
        found, _ = database.read(lambda c: results.as_they_came(c, JOB, 0, 9))
        assert ["one"] == [each.node for each in found]
        assert Counts(done=1) == counts(database)

    def test_a_race_has_one_winner(self, connect):
        """Eight connections write every result at one time: one each is written."""
        databases = [connect() for _ in range(4)]
        filled(databases[0], 60)
        won: Counter[str] = Counter()
        lock = threading.Lock()

        def race(database, node):
            def write(n):
                if finish(database, result(n, node)):
                    with lock:
                        won[str(n)] += 1

            jobs_ = [gevent.spawn(write, n) for n in range(60)]
            gevent.joinall(jobs_, raise_error=True)

        runners = [
            gevent.spawn(race, database, f"node-{at}")
            for at, database in enumerate(databases)
            for _ in range(2)
        ]
        gevent.joinall(runners, raise_error=True)
        assert {str(n): 1 for n in range(60)} == won
        assert Counts(done=60) == counts(databases[0])
        found, _ = databases[0].read(lambda c: results.as_they_came(c, JOB, 0, 999))
        assert 60 == len(found) == len({each.key for each in found})

    def test_leases_race_too(self, connect):
        """Several routers lease at one time: nobody waits, nothing is leased twice."""
        databases = [connect() for _ in range(3)]
        filled(databases[0], 90)
        taken: list[int] = []

        def take(database, owner):
            while some := lease(database, owner, 5):
                taken.extend(each.key for each in some)

        gevent.joinall(
            [gevent.spawn(take, d, f"r{n}") for n, d in enumerate(databases)],
            raise_error=True,
        )
        assert 90 == len(taken) == len(set(taken))

    def test_zero_bytes_and_half_pairs_are_kept(self, database):
        """What a model says is stored whatever it is."""
        filled(database, 1)
        assert finish(database, result(0, text="a\x00b\U0001f600"))
        (kept,), _ = database.read(lambda c: results.as_they_came(c, JOB, 0, 9))
        assert "a�b\U0001f600" == kept.text

    def test_a_line_that_cannot_be_read_fails_alone(self, database):
        """It has its result at once, and never runs."""
        database.write(lambda c: jobs.add(c, a_job(), "me", 1e12))
        some = [item(0), item(1, fault=BAD)]
        database.write(lambda c: items.add(c, JOB, some, 5.0))
        assert Counts(waiting=1, failed=1) == counts(database)
        (kept,), _ = database.read(lambda c: results.as_they_came(c, JOB, 0, 9))
        assert BAD == kept.error

    def test_adding_again_changes_nothing(self, database):
        """A router that was killed while reading reads the page once more."""
        filled(database, 5)
        lease(database, limit=2)
        some = [item(n) for n in range(5)]
        database.write(lambda c: items.add(c, JOB, some, 1.0))
        assert Counts(waiting=3, leased=2) == counts(database)

    def test_results_come_in_the_order_of_the_input(self, database):
        """Page by page, whenever they were written."""
        filled(database, 7)
        for n in (4, 0, 6, 2, 1, 5, 3):
            finish(database, result(n))
        seen, place = [], results.ResultCursor()
        while place is not None:
            page, place = database.read(
                lambda c, at=place: results.in_order(c, JOB, EVERY, at, 3)
            )
            seen += [each.index for each in page]
        assert list(range(7)) == seen

    def test_numbers_follow_commits(self, database):
        """Who reads on from the last number misses nothing."""
        filled(database, 6)
        finish(database, result(3))
        first, last = database.read(lambda c: results.as_they_came(c, JOB, 0, 9))
        for n in (1, 5):
            finish(database, result(n))
        rest, _ = database.read(lambda c: results.as_they_came(c, JOB, last, 9))
        assert [["3"], ["1", "5"]] == [[e.key for e in first], [e.key for e in rest]]


class TestEnds:
    """Called off, revived, dropped."""

    def test_what_waits_is_called_off(self, database):
        """With a result each; what is leased goes on."""
        filled(database, 5)
        lease(database, limit=2)
        fault = ItemFault(CANCELLED, "no more")

        def call_off(connection):
            return items.call_off(connection, JOB, fault, now=9.0, limit=2)

        assert [2, 1, 0] == [database.write(call_off) for _ in range(3)]
        assert Counts(leased=2, cancelled=3) == counts(database)
        assert 2 == database.read(lambda c: items.unsettled(c, JOB))

    def test_some_rows_are_called_off_though_leased(self, database):
        """A row that is decided needs its other samples no more."""
        filled(database, 6)
        lease(database, limit=6)
        fault = ItemFault("not_needed", "decided")
        database.write(
            lambda c: items.call_off(c, JOB, fault, now=9.0, limit=9, rows=range(2, 4))
        )
        assert Counts(leased=4, cancelled=2) == counts(database)
        assert not finish(database, result(2))

    def test_dead_letters_run_again(self, database):
        """Without their results; a line that cannot be read stays as it is."""
        database.write(lambda c: jobs.add(c, a_job(), "me", 1e12))
        some = [item(0), item(1), item(2, fault=BAD)]
        database.write(lambda c: items.add(c, JOB, some, 5.0))
        lease(database)
        finish(database, result(0))
        finish(database, result(1, error=ItemFault("node_failed", "broke")))
        revived = database.write(lambda c: items.revive(c, JOB, [ItemState.FAILED]))
        assert 1 == revived
        assert Counts(waiting=1, done=1, failed=1) == counts(database)

    def test_a_job_is_deleted_piece_by_piece(self, database):
        """Until nothing of it is there."""
        filled(database, 5)
        finish(database, result(1))

        def remove(connection):
            return jobs.remove(connection, JOB, 2)

        steps = 1
        while not database.write(remove):
            steps += 1
        assert steps > 2
        assert Counts() == counts(database)
        assert [] == database.read(jobs.still_open)

    def test_backlogs_count_what_waits(self, database):
        """By kind and model, with the weights' sum."""
        filled(database, 4)
        merge = item(9, kind=ItemKind.MERGE, weight=5.0)
        database.write(lambda c: items.add(c, JOB, [merge], 1.0))
        found = database.read(lambda c: items.backlogs(c, JOB))
        assert {
            (ItemKind.ROW, MODEL): (4, 6.0),
            (ItemKind.MERGE, MODEL): (1, 5.0),
        } == {place: (each.items, each.weight) for place, each in found.items()}


class TestJobs:
    """Jobs and their states."""

    def test_a_state_is_left_once(self, database):
        """Whoever comes second is told so; the moment is kept."""
        filled(database, 2)
        before = [JobState.IN_PROGRESS]

        def cancel(connection):
            return jobs.advance(connection, JOB, before, JobState.CANCELLING, 7.0)

        assert [True, False] == [database.write(cancel) for _ in range(2)]
        found = database.read(lambda c: jobs.get(c, JOB))
        assert (JobState.CANCELLING, {"cancelling": 7.0}) == (found.state, found.marks)

    def test_what_is_over_keeps_its_counts(self, database):
        """They need not be counted again."""
        filled(database, 3)
        finish(database, result(0))
        before = [JobState.IN_PROGRESS]
        database.write(lambda c: jobs.advance(c, JOB, before, JobState.COMPLETED, 7.0))
        found = database.read(lambda c: jobs.get(c, JOB))
        assert Counts(waiting=2, done=1) == found.counts[0]
        assert (3, 7) == found.tokens

    def test_pages_are_steady(self, database):
        """The newest first; each once, also with equal times."""
        for n in range(5):
            made = a_job(f"batch_{n}", created=float(n // 2))
            database.write(lambda c, made=made: jobs.add(c, made, "me", 1e12))
        seen, after, more = [], "", True
        while more:
            page = ResultPage(limit=2, after=after)
            found, more = database.read(lambda c, p=page: jobs.listed(c, p))
            seen += [each.id for each in found]
            after = found[-1].id
        assert [f"batch_{n}" for n in (4, 3, 2, 1, 0)] == seen

    def test_an_open_job_has_one_owner(self, database):
        """Another takes it over once its time has run out."""
        database.write(lambda c: jobs.add(c, a_job(), "me", 10.0))
        assert [] == database.write(lambda c: jobs.own(c, "you", 5.0, 15.0))
        assert [JOB] == database.write(lambda c: jobs.own(c, "you", 11.0, 21.0))
        assert [] == database.write(lambda c: jobs.own(c, "me", 12.0, 22.0))

    def test_a_spec_comes_back_as_it_was(self, database):
        """With every field that a job may have."""
        made = a_job(
            model=MODEL,
            template="{{ a }}",
            options={"seed": 7},
            reducer={"kind": "tree", "threshold": 4},
            bad_lines=BadLines.FAIL_JOB,
            preemption=Preemption.IMMEDIATE,
            window=TimeWindow((Span((0, 4), 1200, 360),), "Europe/Berlin"),
            reading={"delimiter": ";", "header": False},
            nodes=2,
            metadata={"team": "a"},
            name="n",
        )
        database.write(lambda c: jobs.add(c, made, "me", 10.0))
        assert made == database.read(lambda c: jobs.get(c, JOB))


def sorted_by_turn(some):
    return sorted(some, key=lambda each: (each.wave, -each.weight))


class TestParking:
    """A job whose router dies again and again while it runs it."""

    def test_it_is_parked_where_it_never_gets_further(self, database):
        """After three deaths in a row; it is paused, and says why."""
        filled(database, 1)
        begun = [database.write(lambda c: jobs.begin(c, JOB)) for _ in range(5)]
        why = (
            "the router died 3 times in a row while it ran this job, which got no"
            " further"
        )
        assert [None, None, None, why, why] == begun
        found = database.read(lambda c: jobs.get(c, JOB))
        assert (True, why) == (found.paused, found.parked)

    def test_who_gets_further_is_not_parked(self, database):
        """Nor who reads on in its file, nor who ends in order."""
        filled(database, 1)

        def work(progress):
            for _ in range(3):
                assert database.write(lambda c: jobs.begin(c, JOB)) is None
            database.write(progress)

        for _ in range(2):
            work(lambda c: jobs.advanced(c, JOB))
            work(lambda c: jobs.note_rows(c, JOB, 7, []))
            work(lambda c: jobs.disown(c, "me"))

    def test_a_restart_after_a_death_counts(self, database):
        """Whoever takes over everything does not know what the others died of."""
        filled(database, 1)
        for _ in range(3):
            assert database.write(lambda c: jobs.begin(c, JOB)) is None
            database.write(jobs.disown)
        assert database.write(lambda c: jobs.begin(c, JOB))

    def test_resuming_begins_the_count_anew(self, database):
        """Somebody has looked at it."""
        filled(database, 1)
        for _ in range(4):
            database.write(lambda c: jobs.begin(c, JOB))
        database.write(lambda c: jobs.pause(c, JOB, paused=False))
        found = database.read(lambda c: jobs.get(c, JOB))
        assert (False, None) == (found.paused, found.parked)
        assert database.write(lambda c: jobs.begin(c, JOB)) is None


class TestReading:
    """What is read of many jobs, and of large ones."""

    def test_terms_that_are_known_are_not_read_again(self, database):
        """They may be long, and are asked for once a second."""
        filled(database, 1)
        known = {JOB: a_job(template="known already").spec}
        (found,) = database.read(lambda c: jobs.still_open(c, known))
        assert "known already" == found.spec.template
        (found,) = database.read(lambda c: jobs.still_open(c, {}))
        assert "" == found.spec.template

    def test_a_page_of_long_templates_ends_early(self, database):
        """It is held in memory: the rest comes with the next pages."""
        for n in range(8):
            made = a_job(f"batch_{n}", created=float(n), template="x" * 300_000)
            database.write(lambda c, made=made: jobs.add(c, made, "me", 1e12))
        seen, after, more, pages = [], "", True, 0
        while more:
            page = ResultPage(limit=100, after=after)
            found, more = database.read(lambda c, p=page: jobs.listed(c, p))
            seen += [each.id for each in found]
            after, pages = found[-1].id, pages + 1
        assert [f"batch_{n}" for n in range(7, -1, -1)] == seen
        assert 2 == pages

    def test_what_a_reducer_gave_is_read_by_itself(self, database):
        """It may be megabytes; nobody else pays for it."""
        filled(database, 1)
        before = [JobState.IN_PROGRESS]
        text = '{"value": "all", "covers": 1}'
        database.write(
            lambda c: jobs.advance(
                c, JOB, before, JobState.COMPLETED, 7.0, reduced=text
            )
        )
        found = database.read(lambda c: jobs.reduced(c, JOB))
        assert {"value": "all", "covers": 1} == found
        assert {} == database.read(lambda c: jobs.reduced(c, "none"))

    def test_an_item_knows_its_place(self, database):
        """Where its row is, or that its request is stored."""
        filled(database, 0)
        some = [replace(item(0), body=b"", place=77, size=123), item(1)]
        database.write(lambda c: items.add(c, JOB, some, 1.0))
        found = sorted(lease(database), key=lambda each: each.index)
        assert [(77, 123), (-1, 7)] == [(each.place, each.size) for each in found]
        assert not database.read(lambda c: items.needs_file(c, JOB))
        database.write(lambda c: items.give_back_all(c, "me"))
        assert database.read(lambda c: items.needs_file(c, JOB))

"""A client that floods beside another one, in virtual time."""

from __future__ import annotations

from dataclasses import replace

from bench.fairness import Flood, main, run

POLITE = Flood(0.2, 20.0, seconds=120.0)


def test_flood_costs_others_little():
    """A flood of 20 times its share leaves another's wait in seconds, not minutes."""
    alone, beside = run(replace(POLITE, times=0.0)), run(POLITE)
    one_line = run(replace(POLITE, fair=False))
    assert (0, 0) == (alone.failed, beside.failed)
    assert one_line.failed > one_line.asked // 2
    assert alone.wait_p99 < 1.0
    assert beside.wait_p99 < 4.0
    assert one_line.wait_p99 > 8 * beside.wait_p99
    assert beside.whole_p99 < 1.5 * alone.whole_p99
    assert abs(one_line.idle) < 0.001
    assert 0.05 < beside.idle < 0.3
    assert beside.others > 0.5 * one_line.others


def test_jobs_change_nothing_beside_a_flood():
    """While anybody waits no item begins; what is idle else is a job's."""
    few = replace(POLITE, seconds=40.0, jobs=True)
    alone, beside = run(replace(few, times=0.0)), run(few)
    assert alone.items > 20
    assert beside.items < 5
    assert alone.wait_p99 < 0.5
    assert beside.wait_p99 < 4.0


def test_limited_flood_costs_less():
    """A limit has a flood go where others are not, though slots are free."""
    alone, limited = (
        run(replace(POLITE, seconds=60.0, times=times, most=most))
        for times, most in ((0.0, 0), (20.0, 8))
    )
    assert limited.wait_p99 < 0.5
    assert limited.whole_p99 < 1.3 * alone.whole_p99


def test_table(capsys):
    """Each load has a row for each client."""
    clients = ["alone", "beside", "limited"]
    run = ["--loads", "0.1", "--times", "2", "--seconds", "20"]
    main([*run, "--clients", *clients])
    assert 5 == len(capsys.readouterr().out.splitlines())

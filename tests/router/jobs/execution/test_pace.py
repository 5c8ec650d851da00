"""How fast items may begin."""

from __future__ import annotations

from router.jobs.execution.pace import StartThrottle


def test_a_late_loop_slows_down_and_a_prompt_one_recovers():
    """Within bounds, in either direction."""
    pace = StartThrottle()
    usual = pace.rest
    for _ in range(50):
        pace.woke(0.02, alone=False)
    assert 0.1 == pace.rest
    for _ in range(100):
        pace.woke(0.0, alone=False)
    assert usual == pace.rest


def test_where_nobody_streams_lateness_harms_nobody():
    """Then the job may have the processor."""
    pace = StartThrottle()
    pace.woke(0.02, alone=True)
    assert StartThrottle().rest == pace.rest

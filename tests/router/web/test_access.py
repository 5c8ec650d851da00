"""Areas: what a path gives to whoever may ask it."""

from __future__ import annotations

import pytest

from router.web.access import Area, area_of


@pytest.mark.parametrize(
    ("path", "area"),
    [
        ("/", Area.INFERENCE),
        ("/api/chat", Area.INFERENCE),
        ("/v1/messages", Area.INFERENCE),
        ("/v1/models/hf.co/a/b", Area.INFERENCE),
        ("//v1/chat/completions", Area.INFERENCE),
        ("/v1//chat/completions/", Area.INFERENCE),
        ("/v1/rerank", Area.INFERENCE),  # known to newer nodes, perhaps
        ("/v1/files", Area.JOBS),
        ("/v1//files", Area.JOBS),
        ("/v1/fine_tuning/jobs", Area.TELEMETRY),  # would change a node
        ("/v1/batches/b1", Area.JOBS),
        ("/v1/jobs", Area.JOBS),
        ("/jobs/new", Area.JOBS),
        ("/admin", Area.ADMIN),
        ("/admin/nodes", Area.ADMIN),
        ("//admin/nodes", Area.ADMIN),
        ("/webhook/alertmanager", Area.WEBHOOK),
        ("/metrics", Area.TELEMETRY),
        ("/readyz", Area.TELEMETRY),
        ("/administrators", Area.TELEMETRY),
        ("/apiary", Area.TELEMETRY),
        ("/nonsense", Area.TELEMETRY),
    ],
)
def test_areas(path, area):
    """Each route has one; what is unknown has the one that no page may ask."""
    assert area == area_of(path)

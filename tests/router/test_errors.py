"""What the errors of the router promise."""

from __future__ import annotations

import gc
import weakref

from router.errors import AttemptError


def test_a_bare_error_keeps_no_frame():
    """Nor, thereby, the body that a frame held: without a collection."""

    class Body:
        """Stands for one."""

    seen = []
    empty: dict[Body, int] = {}

    def fail():
        body = Body()
        seen.append(weakref.ref(body))
        try:
            empty[body]
        except KeyError:
            raise AttemptError("no") from None

    kept = None
    gc.disable()
    try:
        try:
            fail()
        except AttemptError as error:
            kept = error.bare()
        assert seen[0]() is None
    finally:
        gc.enable()
    assert str(kept) == "no"

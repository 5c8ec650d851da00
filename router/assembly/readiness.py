"""Says whether `/readyz` may say yes, and what is wrong although it does."""

from __future__ import annotations

import time

from router.assembly.foundation import Foundation

_POLLS_SECONDS = 20.0  # some polls of a node that hangs, at the longest usual limit
_STILL_SECONDS = 30.0  # beyond the longest pass; as the alert RouterSnapshotStale


class Readiness:
    """What a load balancer asks.

    stopping: the router ends, and takes no more requests
    """

    def __init__(self, base: Foundation) -> None:
        self._base = base
        self._polled = False
        self._polls_until = time.monotonic() + _POLLS_SECONDS
        self.stopping = False

    def not_ready(self) -> str | None:
        """Say why `/readyz` must not say yes; None when it may."""
        if self.stopping:
            return "the router is shutting down"
        health = self._base.health
        if not health.looked:
            return "alerts have not been looked at yet"
        still = health.still_seconds
        if still > self._longest_pass():
            return f"the control loop has stood still for {still:.0f} s"
        return self._not_polled()

    def warnings(self) -> list[str]:
        """Say what is wrong although requests are served."""
        base = self._base
        found = base.health.warnings()
        for file, fault in base.health.other_files.items():
            if why := fault():
                found.append(f"{file} is not written: {why}")
        for each in base.watched():
            if each.status().fault:  # which may quote the file: only in the log
                found.append(f"{each.status().file} is rejected, see the log")
        if base.keys.fault:
            found.append(f"API keys that were made here do not work: {base.keys.fault}")
        if base.certificate is not None and base.certificate.fault:
            found.append(f"https: the files are not used: {base.certificate.fault}")
        if base.exposed and not base.keys.required:
            found.append(
                f"access.keys is {base.config.access.keys!r}: whoever reaches"
                f" {base.exposed} may use everything"
            )
        return found

    def _not_polled(self) -> str | None:
        """Say at the start which node is not known yet; later none is waited for.

        A fleet that is nearly all dead takes long to be asked, and what was added
        since is no reason to send people away.
        """
        if self._polled:
            return None
        base = self._base
        views = base.published.current.nodes  # what dispatch reads, not the polls
        for node in base.inventory.nodes:
            view = views.get(node.name)
            known = view is not None and view.present is not None
            late = time.monotonic() > self._polls_until
            if not (known or late or base.holds.of(node.name)):
                return f"node {node.name!r} has not been polled yet"
        self._polled = True
        return None

    def _longest_pass(self) -> float:
        """Say how long a pass may take that is slow, but goes on; see `observe`."""
        control = self._base.config.control
        return _STILL_SECONDS + control.stale_after_seconds + control.interval_seconds

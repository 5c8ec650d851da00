"""Which of a node's answers speak of the node, not of the request.

Such an answer is tried elsewhere; any other is the client's own. The texts are
Ollama's (0.17 and 0.33 sources, and what a real one said when it was broken).
"""

from __future__ import annotations

from router.relay.framing import message_in

_GATEWAY = frozenset({502, 503, 504})
_RUNNER_TEXTS = (
    "model runner has unexpectedly stopped",
    "the model runner has stopped",  # ours, where it leaves no word (framing)
    "llama runner process has terminated",
    "llama runner process no longer running",
    "llama-server process has terminated",
    "an error was encountered while running the model",
    "error reading llm response",
    "do embedding request",
)
_NODE_TEXTS = (
    *_RUNNER_TEXTS,
    "model requires more system memory",
    "model requires more gpu memory",
    "out of memory",
    "cudamalloc failed",
    "unable to load model",
    "error loading model",
    "timed out waiting for llama runner",
    "failed to load model",
)


def speaks_of_node(status: int, body: bytes) -> bool:
    """Tell whether another node may answer better.

    404 is only ever `model not found` on these routes: this node lacks it.
    """
    if status in _GATEWAY:
        return True
    if status == 404:
        return "not found" in message_in(body).lower()
    if status == 500:
        text = message_in(body).lower()
        return any(known in text for known in _NODE_TEXTS)
    return False


def runner_died(text: str) -> bool:
    """Tell whether only the runner is gone: Ollama starts another by itself."""
    return any(known in text.lower() for known in _RUNNER_TEXTS)


class RetryBudget:
    """Retries may be a share of the requests, and a few more; no storm beyond.

    Each request deposits `ratio`, each retry takes 1; `minimum` is there from
    the start and the most that can be saved up beyond one retry for each.
    """

    def __init__(self, ratio: float, minimum: int) -> None:
        self.tune(ratio, minimum)
        self._saved = self._most

    def tune(self, ratio: float, minimum: int) -> None:
        """Take over new settings; what was saved up stays."""
        self._ratio = ratio
        self._most = float(minimum)

    def deposit(self) -> None:
        self._saved = min(self._most, self._saved + self._ratio)

    def withdraw(self) -> bool:
        """Take a retry; False when none is left."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True

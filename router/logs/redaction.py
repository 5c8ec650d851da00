"""What must never be shown: told by a field's name, or by the shape of a text."""

from __future__ import annotations

import re
from functools import lru_cache

HIDDEN = "***"

# `tokens` are counted here, and `token_file` is a path: neither is a secret.
_NAME = re.compile(
    r"(^|[^a-z])(token|bearer|password|passwd|passphrase|secret"
    r"|authorization|cookie|credentials?|api_?key|private_?key)$"
)
_CREDENTIALS = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)[^/@\s'\"]+@"
    r"|(?P<bearer>\b(?:bearer|basic)\s+)[\w.~+/=-]+",
    re.IGNORECASE,
)


@lru_cache(maxsize=1024)  # the names in our own calls and files: few, but bounded
def secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret itself (`token_file` does not)."""
    return bool(_NAME.search(name.lower().replace("-", "_")))


def scrub(text: str) -> str:
    """Hide passwords in URLs and the credentials of an Authorization header."""
    if "@" not in text and " " not in text:
        return text
    return _CREDENTIALS.sub(_hide, text)


def _hide(match: re.Match[str]) -> str:
    if match["scheme"]:
        return f"{match['scheme']}{HIDDEN}@"
    return f"{match['bearer']}{HIDDEN}"

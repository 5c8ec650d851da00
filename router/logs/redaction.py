"""What must never be shown: secrets, by a field's name or a text's shape, and bytes
that do something to a terminal instead of being read.
"""

from __future__ import annotations

import re
from functools import lru_cache

from router.text.api_key import PREFIX

HIDDEN = "***"

# `tokens` are counted here, and `token_file` is a path: neither is a secret.
_NAME = re.compile(
    r"(^|[^a-z])(token|bearer|password|passwd|passphrase|secret"
    r"|authorization|cookie|credentials?|api_?key|private_?key)$"
)
_CREDENTIALS = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)[^/@\s'\"]+@"
    r"|(?P<bearer>\b(?:bearer|basic)\s+)[\w.~+/=-]+"
    rf"|(?P<key>{PREFIX})[\w-]+",
    re.IGNORECASE,
)


@lru_cache(maxsize=1024)  # the names in our own calls and files: few, but bounded
def secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret itself (`token_file` does not)."""
    return bool(_NAME.search(name.lower().replace("-", "_")))


def scrub(text: str) -> str:
    """Hide passwords in URLs, credentials of an Authorization header, and API keys."""
    if "@" not in text and " " not in text and PREFIX not in text:
        return text
    return _CREDENTIALS.sub(_hide, text)


def _hide(match: re.Match[str]) -> str:
    if match["scheme"]:
        return f"{match['scheme']}{HIDDEN}@"
    return f"{match['bearer'] or match['key']}{HIDDEN}"


# Control characters but the line's end, what turns the direction of text around, other
# ends of a line, and halves of a pair, which cannot be encoded.
_CONTROLS = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"
    "\ud800-\udfff]"
)


def plain(text: str) -> str:
    """Write as an escape what a terminal would obey, or a line could not hold."""
    return _CONTROLS.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

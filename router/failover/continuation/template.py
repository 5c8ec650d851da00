"""Renders a prompt where a node cannot show it; pure.

Only what needs no Go: a raw prompt, and a template of `/api/generate` that is
plain text around `{{ .System }}` and `{{ .Prompt }}`. Anything else is None.
"""

from __future__ import annotations

import re

from router.failover.continuation.request import (
    GENERATE,
    OPENAI_COMPLETIONS,
    OriginalRequest,
)

_FIELD = re.compile(r"\{\{ *\.(System|Prompt) *\}\}")


def render(text: str, original: OriginalRequest) -> str | None:
    """Render the original request by a template of `/api/show`."""
    fields = original.fields
    prompt = fields.get("prompt") or ""
    if fields.get("raw"):
        return prompt
    if original.path not in {GENERATE, OPENAI_COMPLETIONS} or fields.get("context"):
        return None
    text = fields.get("template") or text
    if "{{" in _FIELD.sub("", text) or not _FIELD.search(text):
        return None
    values = {"System": fields.get("system") or "", "Prompt": prompt}
    return _FIELD.sub(lambda match: values[match[1]], text)

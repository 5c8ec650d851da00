"""A node of tables: it counts on, renders by a template, and remembers the asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PLAIN = "{text}"


def tokens(text: str) -> int:
    return 1 + len(re.findall(r"\d+|[^\s\d]{1,4}", text))


@dataclass
class TableNode:
    """Answers like a node, of whose template only the two ends matter.

    closes:     what the template puts behind a last assistant message
    adds:       what a Modelfile adds to every prompt that is not raw
    bos:        a start that only normal requests strip again
    window:     the most tokens of a prompt that are read
    debugs:     whether `_debug_render_only` is known
    says:       the token that a native answer has, unless it is a stop string;
                none is an end
    samples:    whether it then says another one
    generations: how many it has made
    """

    closes: str = ""
    adds: str = ""
    bos: str = ""
    window: int = 100_000
    debugs: bool = True
    says: str = " 106"
    samples: bool = False
    modelfile: str = "FROM x"
    parameters: str = ""
    template: str = "{{ .Prompt }}"
    asked: list[str] = field(default_factory=list)
    generations: int = 0

    def __call__(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append(path)
        if path == "/api/show":
            told = {"modelfile": self.modelfile, "parameters": self.parameters}
            return {**told, "template": self.template, "details": {"family": "llama"}}
        prompt = self._render(path, body)
        if body.get("_debug_render_only") and self.debugs:
            return {"_debug_info": {"rendered_template": prompt}}
        self.generations += 1
        read = prompt if body.get("raw") else prompt.removeprefix(self.bos)
        count = min(self.window, tokens(read) + read.startswith(self.bos or "\0"))
        if path.startswith("/v1/"):
            return {"usage": {"prompt_tokens": count, "completion_tokens": 1}}
        stops = (body.get("options") or {}).get("stop", ())
        said = " 107" if self.samples and stops else self.says
        said = "" if said in stops else said
        return {
            "prompt_eval_count": count,
            "eval_count": 1,
            "response": said,
            "context": list(range(tokens(read + said))),
        }

    def _render(self, path: str, body: Mapping[str, Any]) -> str:
        if body.get("raw"):
            return str(body["prompt"])
        if "messages" not in body:
            passed = body.get("template") == "{{ .Prompt }}"
            return (self.adds if passed else self.bos) + str(body["prompt"])
        messages = body["messages"]
        text = self.bos + "".join(each["content"] for each in messages)
        last = messages[-1]["role"] == "assistant"
        return text + (self.closes if last else "")

"""Reads the inventory from `nodes.yml`, which has Prometheus' file_sd format.

A node's attributes are labels whose names begin with `__`: Prometheus drops them, the
router reads them. All faults are reported together, each such as
`nodes.yml: [2].labels.__slots: must be a whole number >= 1, got 'many'`.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from router.config import address
from router.config import yaml as document
from router.config.yaml import Location, YamlFault
from router.errors import ConfigError
from router.model import NO_ACCESS, Access, Inventory, Node

OLLAMA_PORT = 11434
SCRAPES = ("exporter", "node", "dcgm", "nvidia_smi", "probe")

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
# Names that the control plane's own targets carry.
_RESERVED_NODES = frozenset({"control-plane"})
# Labels that Prometheus' configuration or our rules give a meaning of their own.
_RESERVED_LABELS = frozenset({"job", "instance", "uuid"})

_Check = Callable[[str], object]


def _number(text: str, *, zero: bool = False) -> float:
    sign = ">= 0" if zero else "> 0"
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"must be a number {sign}") from None
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise ValueError(f"must be a number {sign}")
    return value


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text[:9]) <= 99999:
        raise ValueError("must be a whole number >= 1")
    return int(text)


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("must be 'true' or 'false'")
    return text == "true"


def _scrapes(text: str) -> tuple[str, ...]:
    kinds = tuple(part.strip() for part in text.split(","))
    if not set(kinds) <= set(SCRAPES) or len(set(kinds)) < len(kinds):
        raise ValueError(f"must be some of {', '.join(SCRAPES)} with commas between")
    return kinds


def _node_name(text: str) -> str:
    if text in _RESERVED_NODES:
        raise ValueError("is reserved for the control plane itself")
    if not _NAME.fullmatch(text):
        raise ValueError(
            "must be 1 to 63 of a-z, 0-9, '.', '_', '-', with a letter or digit"
            " at each end"
        )
    return text


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


def _login_name(text: str) -> str:
    if not text or ":" in text or not text.isprintable():
        raise ValueError("must be a name without ':'")
    return text


def _pin(text: str) -> str:
    digest = text.removeprefix("sha256:").replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError("must be the certificate's SHA-256 in hexadecimal digits")
    return digest


# Every label that this product reads: how its value is checked. The simulator's
# are looked at for their form only.
LABELS: Mapping[str, _Check] = {
    "node": _node_name,
    "__ollama": partial(address.base_url, path=True),
    "__ollama_username": _login_name,
    "__ollama_password_file": _file,
    "__ollama_token_file": _file,
    "__ollama_ca_file": _file,
    "__ollama_pin": _pin,
    "__slots": _count,
    "__vram_bytes": _number,
    "__tflops": _number,
    "__temperature_limit_celsius": _number,
    "__scrape": _scrapes,
    "__exporter_address": address.host_port,
    "__node_address": address.host_port,
    "__dcgm_address": address.host_port,
    "__nvidia_smi_address": address.host_port,
    "__simulated": _flag,
    "__sim_tokens_per_second": _number,
    "__sim_prompt_tokens_per_second": _number,
    "__sim_load_seconds": partial(_number, zero=True),
    "__sim_gpus": _count,
}
_ACCESS = ("username", "password_file", "token_file", "ca_file", "pin")
_ATTRIBUTES = ("vram_bytes", "tflops", "temperature_limit_celsius")


def load_inventory(path: Path) -> Inventory:
    """Read an inventory; raises ConfigError with every fault."""
    return parse_inventory(document.read(path), source=path.name)


def parse_inventory(text: str, *, source: str = "nodes.yml") -> Inventory:
    """Check an inventory's text, as `load_inventory` does."""
    content = document.parse(text, source, as_written=True)
    if content is None or content == []:
        fault = YamlFault((), "must name at least one node, got an empty file")
        raise document.rejected(source, [fault])
    if not isinstance(content, list):
        raise document.rejected(source, [YamlFault((), "must be a list", content)])
    entries = [_Entry((index,)).read(each) for index, each in enumerate(content)]
    faults = [fault for entry in entries for fault in entry.faults]
    faults += _repeated(entries)
    if faults:
        raise document.rejected(source, faults)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Inventory(tuple(entry.node() for entry in entries), digest)


def refuse_shrinking(new: Inventory, current: Inventory, *, source: str) -> None:
    """Raise ConfigError if a change removes two or more nodes and over half of them.

    A half-written or emptied file looks like this; an operator can confirm the change.
    A file with a new node was written on purpose and may replace the fleet.
    """
    lost = len(current.nodes) - len(new.nodes)
    if lost < 2 or lost * 2 <= len(current.nodes) or new.names() - current.names():
        return
    gone = ", ".join(sorted(current.names() - new.names()))
    what = (
        f"suddenly shrunk from {len(current.nodes)} nodes to {len(new.nodes)}"
        f" (without {gone}): to confirm, "
        'send {"confirmed": true} to POST /admin/reload'
    )
    raise ConfigError(f"{source}: {what}")


@dataclass(slots=True)
class _Entry:
    """An entry of the list while it is read."""

    where: Location
    host: str = ""
    values: dict[str, object] = field(default_factory=dict)
    faults: list[YamlFault] = field(default_factory=list)

    def read(self, content: object) -> _Entry:
        if not isinstance(content, dict):
            return self._wrong((), "must be a mapping", content)
        for key in content:
            if key not in ("targets", "labels"):
                what = document.unknown(str(key), ("targets", "labels"))
                self._wrong((str(key),), what, content[key])
        self._read_targets(content.get("targets"))
        self._read_labels(content.get("labels"))
        return self

    def node(self) -> Node:
        slots = self.values.get("__slots")
        numbers = {name: self.values.get(f"__{name}") for name in _ATTRIBUTES}
        return Node(
            name=str(self.values["node"]),
            url=self.url(),
            slots=slots if isinstance(slots, int) else None,
            attributes={k: v for k, v in numbers.items() if isinstance(v, float)},
            access=Access(**given) if (given := self._access()) else NO_ACCESS,
        )

    def _access(self) -> dict[str, Any]:
        given = {name: self.values.get(f"__ollama_{name}") for name in _ACCESS}
        return {name: value for name, value in given.items() if value is not None}

    def url(self) -> str:
        return str(self.values.get("__ollama", f"http://{self.host}:{OLLAMA_PORT}"))

    def _wrong(self, where: Location, what: str, value: object) -> _Entry:
        self.faults.append(YamlFault((*self.where, *where), what, value))
        return self

    def _read_targets(self, targets: object) -> None:
        if not isinstance(targets, list) or len(targets) != 1:
            self._wrong(("targets",), "must be a list of exactly one address", targets)
            return
        if not isinstance(targets[0], str):
            self._wrong(("targets", 0), "must be text", targets[0])
            return
        try:
            self.host, _ = address.split(targets[0])
        except ValueError as error:
            self._wrong(("targets", 0), str(error), targets[0])

    def _read_labels(self, labels: object) -> None:
        if not isinstance(labels, dict):
            self._wrong(("labels",), "must be a mapping", labels)
            return
        if "node" not in labels:
            self.faults.append(
                YamlFault((*self.where, "labels", "node"), "is required")
            )
        for name, value in labels.items():
            self._read_label(name, value)
        self._read_access()

    def _read_access(self) -> None:
        """Refuse what would not do what its writer thinks."""
        given = self._access()
        if "token_file" in given and "password_file" in given:
            what = "must not stand beside __ollama_password_file"
            token = str(given["token_file"])
            self._wrong(("labels", "__ollama_token_file"), what, token)
        if ("username" in given) != ("password_file" in given):
            what = "__ollama_username and __ollama_password_file belong together"
            one = given.get("username") or str(given["password_file"])
            self._wrong(("labels",), what, one)
        secure = self.url().startswith("https:")
        for name in sorted({"ca_file", "pin"} & given.keys()):
            if not secure:
                what = "needs an __ollama of https"
                self._wrong(("labels", f"__ollama_{name}"), what, str(given[name]))

    def _read_label(self, name: object, value: object) -> None:
        where = ("labels", str(name))
        if not isinstance(value, str):
            self._wrong(where, "must be text", value)
            return
        try:
            self.values[str(name)] = _checked(str(name), value)
        except ValueError as error:
            self._wrong(where, str(error), value)


def _checked(name: str, value: str) -> object:
    if name in LABELS:
        return LABELS[name](value)
    if name.startswith("__"):
        raise ValueError(document.unknown(name, LABELS))
    if name in _RESERVED_LABELS:
        raise ValueError("is a label of Prometheus' or of our rules, take another name")
    if not _LABEL.fullmatch(name):
        raise ValueError("must be named with letters, digits and '_'")
    return value


def _repeated(entries: Sequence[_Entry]) -> Iterator[YamlFault]:
    """Find names, and Ollama endpoints, that two entries claim.

    One endpoint under two names would be given its slots twice.
    """
    names: dict[str, int] = {}
    urls: dict[str, int] = {}
    for index, entry in enumerate(entries):
        name = entry.values.get("node")
        if isinstance(name, str):
            first = names.setdefault(name, index)
            if first != index:
                what = f"must be unique, is also [{first}]'s"
                yield YamlFault((index, "labels", "node"), what, name)
        if entry.faults:
            continue
        first = urls.setdefault(entry.url(), index)
        if first != index:
            what = f"must not be [{first}]'s Ollama too"
            yield YamlFault((index, "labels", "__ollama"), what, entry.url())

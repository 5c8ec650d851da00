"""nodes.yml: what becomes of an entry, each rejection's exact text, shrinking."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from router.config.inventory import (
    LABELS,
    load_inventory,
    parse_inventory,
    refuse_shrinking,
)
from router.errors import ConfigError
from router.model import Access, Inventory, Node

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests/data/config"

REJECTED = {
    "access": [
        (
            "[0].labels.__ollama_pin: must be the certificate's SHA-256 in"
            " hexadecimal digits, got 'sha256:12'"
        ),
        ("[0].labels.__ollama_ca_file: needs an __ollama of https, got '/etc/ca.pem'"),
        "[1].labels.__ollama_token_file: must be an absolute path, got 'token'",
        "[1].labels.__ollama_username: must be a name without ':', got 'u:v'",
        (
            "[2].labels: __ollama_username and __ollama_password_file belong"
            " together, got 'ann'"
        ),
        (
            "[3].labels.__ollama_token_file: must not stand beside"
            " __ollama_password_file, got '/t'"
        ),
    ],
    "addresses": [
        (
            "[0].targets[0]: must be a name or address, with or without :port,"
            " got 'http://192.0.2.1'"
        ),
        (
            "[0].labels.__ollama: must be http://host:port or https://host:port,"
            " got '192.0.2.1:11434'"
        ),
        "[0].labels.__dcgm_address: must be host:port, got '192.0.2.1'",
        (
            "[0].labels.__node_address: must have a port from 1 to 65535,"
            " got '192.0.2.1:99999'"
        ),
        (
            "[1].labels.__ollama: must be http://host:port or https://host:port,"
            " got 'ftp://192.0.2.2'"
        ),
        (
            "[2].labels.__ollama: must carry no user or password,"
            " got 'http://***@192.0.2.3:11434'"
        ),
        (
            "[3].labels.__ollama: must be http://host:port or https://host:port"
            " without a query or fragment, got 'http://192.0.2.4:11434/api?x'"
        ),
    ],
    "choices": [
        (
            "[0].labels.__scrape: must be some of exporter, node, dcgm, nvidia_smi, "
            "probe with commas between, got 'exporter, dcgm'"
        ),
        "[0].labels.__simulated: must be 'true' or 'false', got 'yes'",
    ],
    "empty": ["must name at least one node, got an empty file"],
    "label-twice": ["line 5, column 5: duplicate key, got '__slots'"],
    "mapping-at-top": ["must be a list, got a mapping of 1"],
    "name-twice": ["[1].labels.node: must be unique, is also [0]'s, got 'a'"],
    "names": [
        (
            "[0].labels.node: must be 1 to 63 of a-z, 0-9, '.', '_', '-',"
            " with a letter or digit at each end, got 'Rig 1'"
        ),
        (
            "[1].labels.node: is reserved for the control plane itself,"
            " got 'control-plane'"
        ),
        "[2].labels.node: is required",
    ],
    "numbers": [
        "[0].labels.__slots: must be a whole number >= 1, got '0'",
        "[0].labels.__vram_bytes: must be a number > 0, got '24 GB'",
        "[0].labels.__tflops: must be a number > 0, got '-1'",
        "[0].labels.__temperature_limit_celsius: must be a number > 0, got 'inf'",
        "[0].labels.__sim_load_seconds: must be a number >= 0, got '-2'",
        "[0].labels.__sim_gpus: must be a whole number >= 1, got '1.5'",
    ],
    "ollama-twice": [
        (
            "[1].labels.__ollama: must not be [0]'s Ollama too,"
            " got 'http://192.0.2.1:11434'"
        )
    ],
    "slots-in-words": ["[2].labels.__slots: must be a whole number >= 1, got 'many'"],
    "targets": [
        "[0].targets: must be a list of exactly one address, got a list of 2",
        "[1].targets: must be a list of exactly one address, got nothing",
        "[2].targets[0]: must be text, got 192",
        "[2].labels: must be a mapping, got nothing",
        "[3]: must be a mapping, got '192.0.2.4'",
    ],
    "unknown-labels": [
        "[0].label: is unknown, perhaps 'labels' is meant, got a mapping of 0",
        "[0].labels.__vram: is unknown, perhaps '__vram_bytes' is meant, got '24e9'",
        (
            "[0].labels.job: is a label of Prometheus' or of our rules,"
            " take another name, got 'mine'"
        ),
        "[0].labels.rack-row: must be named with letters, digits and '_', got '7'",
    ],
    "unquoted": [
        "[0].labels.node: must be text in quotes, as Prometheus wants, got 1",
        "[0].labels.__tflops: must be text in quotes, as Prometheus wants, got 82.6",
    ],
}


def entry(target, **labels):
    return {"targets": [target], "labels": labels}


def parsed(*entries):
    return parse_inventory(json.dumps(entries))  # JSON is YAML


@pytest.mark.parametrize("what", REJECTED)
def test_rejects_with_exact_text(what):
    """Each rejected file names every fault with file, path and value."""
    text = (DATA / f"invalid-nodes-{what}.yml").read_text()

    with pytest.raises(ConfigError) as caught:
        parse_inventory(text)

    expected = [f"nodes.yml: {line}" for line in REJECTED[what]]
    assert str(caught.value).splitlines() == expected


def test_each_rejected_file_is_in_the_table():
    """No rejected file lies about untested."""
    files = {path.stem for path in DATA.glob("invalid-nodes-*.yml")}

    assert {f"invalid-nodes-{what}" for what in REJECTED} == files


def test_reads_an_entry_whole():
    """Labels become the node's URL, slots and attributes; the rest is left."""
    inventory = parsed(
        entry(
            "192.0.2.7:9100",
            node="rig-4090",
            rack="b",
            __ollama="http://ollama.lan:8080/",
            __slots="4",
            __vram_bytes="24e9",
            __tflops="82.6",
            __temperature_limit_celsius="88",
            __scrape="exporter,dcgm",
            __dcgm_address="192.0.2.7:9400",
            __simulated="false",
        )
    )

    attributes = {"vram_bytes": 24e9, "tflops": 82.6, "temperature_limit_celsius": 88}
    expected = Node("rig-4090", "http://ollama.lan:8080", 4, attributes)
    assert inventory.nodes == (expected,)


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("192.0.2.1", "http://192.0.2.1:11434"),
        ("rig.lan:9100", "http://rig.lan:11434"),
        ("[2001:db8::7]:9100", "http://[2001:db8::7]:11434"),
    ],
    ids=["address", "name and port", "IPv6"],
)
def test_ollama_is_at_the_address_by_default(target, url):
    """Without `__ollama`, Ollama is at its own port of the machine."""
    (node,) = parsed(entry(target, node="a")).nodes

    assert node == Node("a", url)


def test_order_is_kept_and_content_is_identified():
    """Nodes come in the file's order; another content has another digest."""
    one = parsed(entry("b.lan", node="b"), entry("a.lan", node="a"))
    two = parsed(entry("b.lan", node="b"))

    assert [node.name for node in one.nodes] == ["b", "a"]
    assert one.digest != two.digest


def test_two_entries_may_not_reach_one_ollama_by_default_either():
    """Slots are counted by endpoint: one machine under two names is refused."""
    with pytest.raises(ConfigError, match="must not be \\[0\\]'s Ollama too"):
        parsed(entry("rig.lan:9100", node="a"), entry("rig.lan:9400", node="b"))


def test_shipped_inventories_are_valid():
    """Every inventory that the project ships is accepted."""
    files = [*ROOT.glob("prometheus/targets/*.yml"), *ROOT.glob("simulator/targets/*")]

    assert files
    for path in files:
        assert load_inventory(path).nodes


def test_documentation_names_each_label():
    """docs/configuration.md explains every label that is read."""
    page = (ROOT / "docs/configuration.md").read_text()

    assert [label for label in LABELS if f"`{label}`" not in page] == []


def fleet(*names):
    return Inventory(tuple(Node(name, f"http://{name}:1") for name in names))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("abcd", "abcde"),
        ("abcd", "ab"),
        ("ab", "a"),
        ("a", "b"),
        ("abcd", "wxyz"),
        ("abcdef", "x"),
    ],
    ids=["grown", "lost half", "lost one", "one by one", "by as many", "by few"],
)
def test_ordinary_changes_are_no_shrinking(before, after):
    """Adding, replacing, and losing one or up to half go through."""
    refuse_shrinking(fleet(*after), fleet(*before), source="nodes.yml")


@pytest.mark.parametrize(
    ("before", "after"),
    [("abcd", "a"), ("abc", "a")],
    ids=["three of four", "two of three"],
)
def test_losing_most_nodes_at_once_is_refused(before, after):
    """Two or more nodes and more than half: a truncated file looks like this."""
    with pytest.raises(ConfigError) as caught:
        refuse_shrinking(fleet(*after), fleet(*before), source="nodes.yml")

    gone = ", ".join(sorted(set(before) - set(after)))
    assert str(caught.value) == (
        f"nodes.yml: suddenly shrunk from {len(before)} nodes to {len(after)}"
        f" (without {gone}): to confirm, "
        'send {"confirmed": true} to POST /admin/reload'
    )


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)


@given(
    st.lists(
        _scalars
        | st.fixed_dictionaries(
            {
                "targets": _scalars | st.lists(_scalars, max_size=2),
                "labels": _scalars
                | st.dictionaries(
                    st.sampled_from(sorted(LABELS)) | st.text(max_size=5),
                    _scalars,
                    max_size=4,
                ),
            }
        ),
        max_size=3,
    )
)
def test_any_list_is_accepted_or_rejected(content):
    """Nothing that YAML can say raises anything but ConfigError, one line a fault."""
    try:
        nodes = parse_inventory(yaml.safe_dump(content)).nodes
    except ConfigError as error:
        lines = str(error).splitlines()
        assert lines
        assert all(line.startswith("nodes.yml: ") for line in lines)
    else:
        assert len(nodes) == len(content)


def test_a_node_behind_tls_and_a_login():
    """Its own authority or a pin, a token or a name with a password."""
    inventory = parse_inventory(
        """
- targets: ["a"]
  labels:
    node: "a"
    __ollama: "https://a.example/ollama/"
    __ollama_ca_file: "/etc/ca.pem"
    __ollama_token_file: "/etc/token"
- targets: ["b"]
  labels:
    node: "b"
    __ollama: "https://b:8443"
    __ollama_pin: "sha256:AB%s"
    __ollama_username: "ann"
    __ollama_password_file: "/etc/password"
"""
        % (":00" * 31)
    )
    first, second = inventory.nodes
    assert first.url == "https://a.example/ollama"
    assert first.access == Access(
        token_file=Path("/etc/token"), ca_file=Path("/etc/ca.pem")
    )
    assert second.access == Access("ann", Path("/etc/password"), pin="ab" + "00" * 31)

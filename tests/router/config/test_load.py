"""router.yml and its overrides: what is accepted, and each rejection's exact text."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from router.config import reference
from router.config import yaml as yaml_file
from router.config.load import (
    parse_config,
    settings,
    variable,
    waiting_for_restart,
)
from router.config.section import needs_restart
from router.config.settings import Config, pickers_by_model
from router.errors import ConfigError
from router.pickers import PICKERS

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests/data/config"
SHIPPED = ROOT / "router/router.yml"

REJECTED = {
    "attempts-zero": ["dispatch.attempts: must be >= 1, got 0"],
    "bad-paths": [
        "state.directory: must not be empty, got ''",
        "webhook.token_file: must be a path, got 7",
    ],
    "bodies-contradict": [
        "dispatch.max_bodies_bytes: must be >= max_body_bytes (1048576), got 1048575"
    ],
    "circuits": [
        "dispatch.down_wait_seconds: must be >= 0, got -1",
        (
            "dispatch.longest_circuit_wait_seconds: must be > circuit_wait_seconds"
            " (30), got 30"
        ),
    ],
    "door": [
        "web.max_connections: must be >= 1, got 0",
        "web.head_timeout_seconds: must be > 0, got 0",
    ],
    "duplicate-key": ["line 4, column 3: duplicate key, got 'attempts'"],
    "https": [
        (
            "web.tls_address: must be an address with a port such as 0.0.0.0:8443,"
            " got 'https://0.0.0.0:8443'"
        ),
    ],
    "https-incomplete": [
        "web.tls_key: is required beside tls_address, got nothing",
    ],
    "https-nowhere": [
        "web.tls_cert: needs tls_address, got 'server.pem'",
        "web.tls_key: needs tls_address, got 'key.pem'",
    ],
    "hosts": [
        (
            "web.hosts: must be names such as ai.example.org or *.example.org, without"
            " scheme or port: 'https://chat.example.org' is none,"
            " got 'ai.example.org, https://chat.example.org'"
        )
    ],
    "intervals-contradict": [
        "control.forget_after_seconds: must be > stale_after_seconds (300), got 120",
        "control.longest_hold_down_seconds: must be > hold_down_seconds (60), got 60",
    ],
    "job-room": [
        "jobs.max_job_bytes: must be >= 65536, got 1",
        "jobs.max_stored_bytes: must be >= 1048576, got 0",
        "jobs.min_free_bytes: must be >= 0, got -1",
        "jobs.reader_memory_bytes: must be >= 67108864, got 1000",
    ],
    "list-at-top": ["must be a mapping, got a list of 1"],
    "not-finite": [
        "control.interval_seconds: must be a finite number, got inf",
        "control.panic_ratio: must be a finite number, got nan",
    ],
    "not-yaml": [("line 3, column 2: not YAML: did not find expected key")],
    "secrets-inline": [
        (
            "prometheus.url: must carry no user or password,"
            " got 'http://***@127.0.0.1:9090'"
        ),
        "admin.token: is unknown, perhaps 'token_file' is meant, got ***",
    ],
    "section-no-mapping": ["control: must be a mapping, got 5"],
    "two-documents": ["line 3, column 1: must be one document"],
    "unknown-choice": [
        (
            "dispatch.picker: must be 'shortest_completion', 'least_in_flight',"
            " 'weighted_least_in_flight', 'power_of_two', 'score', 'session',"
            " 'random' or 'round_robin', got 'luckiest'"
        ),
        "log.level: must be 'debug', 'info', 'warning' or 'error', got 'loud'",
    ],
    "unknown-names": [
        "dispatch.atempts: is unknown, perhaps 'attempts' is meant, got 3",
        "shutdwn: is unknown, perhaps 'shutdown' is meant, got a mapping of 1",
    ],
    "url-without-scheme": [
        (
            "prometheus.url: must be http://host:port or https://host:port,"
            " got '127.0.0.1:9090'"
        ),
        (
            "alertmanager.url: must be http://host:port or https://host:port"
            " without a query or fragment, got 'https://127.0.0.1:9093/alerts?x=1'"
        ),
    ],
    "wrong-types": [
        "dispatch.default_slots: must be a whole number, got '4'",
        "dispatch.max_waiting: must be a whole number, got 'yes'",
        "dispatch.first_token_seconds: must be >= 0, got -1",
        "dispatch.attempts: must be a whole number, got 2.5",
        "dispatch.retry_ratio: must be <= 1, got 1.5",
    ],
}


@pytest.mark.parametrize("what", REJECTED)
def test_rejects_with_exact_text(what):
    """Each rejected file names every fault with file, path and value."""
    text = (DATA / f"invalid-router-{what}.yml").read_text()

    with pytest.raises(ConfigError) as caught:
        parse_config(text, {})

    assert [f"router.yml: {line}" for line in REJECTED[what]] == str(
        caught.value
    ).splitlines()


def test_each_rejected_file_is_in_the_table():
    """No rejected file lies about untested."""
    files = {path.stem for path in DATA.glob("invalid-router-*.yml")}

    assert {f"invalid-router-{what}" for what in REJECTED} == files


def test_shipped_file_says_nothing_beside_the_defaults():
    """Defaults stand in `router.config.settings` only; the page lists them."""
    assert Config() == parse_config(SHIPPED.read_text(), {})
    assert {} == yaml.safe_load(SHIPPED.read_text())


@pytest.mark.parametrize("text", ["", "# nothing\n", "dispatch:\n"])
def test_absent_settings_are_defaults(text):
    """An empty file or section leaves the defaults."""
    assert Config() == parse_config(text, {})


def test_unreadable_file_is_named(tmp_path):
    """A file that is not there is told by name and path."""
    path = tmp_path / "router.yml"

    with pytest.raises(ConfigError) as caught:
        yaml_file.read(path)

    expected = f"router.yml: cannot be read: No such file or directory, got '{path}'"
    assert expected == str(caught.value)


def test_file_that_is_not_text_is_named(tmp_path):
    """A binary file is told by the first bad byte."""
    path = tmp_path / "router.yml"
    path.write_bytes(b"log: \xff\n")

    with pytest.raises(ConfigError) as caught:
        yaml_file.read(path)

    assert f"router.yml: must be UTF-8 text, is not at byte 5, got '{path}'" == str(
        caught.value
    )


def test_environment_overrides_the_file():
    """A variable wins over the file, is read as its setting's type, or absent."""
    environ = {
        "INFEROPS_DISPATCH__ATTEMPTS": "7",
        "INFEROPS_CONTROL__INTERVAL_SECONDS": "0.5",
        "INFEROPS_STATE__DIRECTORY": "/var/lib/inferops",
        "INFEROPS_ADMIN__TOKEN_FILE": "",
        "INFEROPS_CONFIG": "not a setting, no double underscore",
        "PATH": "/bin",
    }

    config = parse_config("dispatch: {attempts: 2}\nadmin: {token_file: a}", environ)

    assert config.dispatch.attempts == 7
    assert config.control.interval_seconds == 0.5
    assert config.state.directory == Path("/var/lib/inferops")
    assert config.admin.token_file is None


def test_environment_faults_name_the_variable():
    """Faults of overrides stand beside the file's; unknown values are not shown."""
    environ = {
        "INFEROPS_ADMIN__TOKEN": "hunter2",
        "INFEROPS_DISPATCH__ATTEMPTS": "0",
        "INFEROPS_DISPATCH__STALL_TIMEOUT_SECONDS": "soon",
        "INFEROPS_LOG__FORMAT": "xml",
    }

    with pytest.raises(ConfigError) as caught:
        parse_config("dispatch: {max_waiting: -1}", environ)

    assert str(caught.value).splitlines() == [
        (
            "environment: INFEROPS_ADMIN__TOKEN: is unknown,"
            " perhaps 'INFEROPS_ADMIN__TOKEN_FILE' is meant"
        ),
        "router.yml: dispatch.max_waiting: must be >= 0, got -1",
        "environment: INFEROPS_DISPATCH__ATTEMPTS: must be >= 1, got '0'",
        (
            "environment: INFEROPS_DISPATCH__STALL_TIMEOUT_SECONDS:"
            " must be a number, got 'soon'"
        ),
        "environment: INFEROPS_LOG__FORMAT: must be 'logfmt' or 'json', got 'xml'",
    ]


def test_override_does_not_hide_a_faulty_section():
    """A section that is no mapping stays an error under an override."""
    with pytest.raises(ConfigError) as caught:
        parse_config("dispatch: 3", {"INFEROPS_DISPATCH__ATTEMPTS": "2"})

    assert str(caught.value) == "router.yml: dispatch: must be a mapping, got 3"


@pytest.mark.parametrize("text", ["64e6", "6.4e+7", "64000000.0"])
def test_numbers_as_people_write_them(text):
    """`64e6` is a number, which YAML 1.1 would read as text."""
    with pytest.raises(ConfigError, match=r"got 64000000\.0"):
        parse_config(f"control: {{interval_seconds: {text}}}", {})


@pytest.mark.parametrize("text", ["1:30", "010", "0x1F", "1_000", "yes"])
def test_text_that_old_yaml_reads_as_a_number(text):
    """Sexagesimal, octal and the like are text, so they are rejected as shown."""
    with pytest.raises(ConfigError, match=f"must be a number, got '{text}'"):
        parse_config(f"control: {{interval_seconds: {text}}}", {})


@pytest.mark.parametrize("name", PICKERS)
def test_each_picker_may_be_chosen(name):
    """The choice in the configuration is the table of pickers."""
    assert name == parse_config(f"dispatch: {{picker: {name}}}", {}).dispatch.picker


def test_the_old_name_of_a_picker_is_accepted():
    """`soonest` was the default's name before 0.1.0; it goes with 0.2."""
    assert Config() == parse_config("dispatch: {picker: soonest}", {})


@pytest.mark.parametrize(
    ("old", "value", "new"),
    [
        ("control.doorbell_seconds", 30, "control.provisional_hold_seconds"),
        ("jobs.give_way", "item", "jobs.preemption"),
        ("batch.give_way", "item", "jobs.preemption"),
        ("batch.max_items", 5, "jobs.max_items"),
    ],
)
def test_old_names_work_for_a_release(old, value, new):
    """In the file and in the environment; what both name has the new one's value."""
    section, name = old.split(".")
    wanted = parse_config("", {variable(*new.split(".")): str(value)})
    assert wanted != Config()
    assert wanted == parse_config(f"{section}: {{{name}: {value}}}", {})
    assert wanted == parse_config("", {variable(section, name): str(value)})


def test_pickers_by_model():
    """Models are named as Ollama takes them, and policies as they are."""
    text = "Qwen3:latest = session, llama3.2:3b=random,"
    config = parse_config(f"dispatch: {{pickers: '{text}'}}", {})
    found = pickers_by_model(config.dispatch.pickers)
    assert {"qwen3:latest": "session", "llama3.2:3b": "random"} == found
    for wrong in ("qwen3=luckiest", "=random", "qwen3"):
        with pytest.raises(ConfigError, match="must be `model=shortest_completion"):
            parse_config(f"dispatch: {{pickers: '{wrong}'}}", {})


def test_restart_is_asked_for_what_is_read_once():
    """Only changed settings that are read at start are named."""
    wanted = parse_config(
        "state: {directory: elsewhere}\nlog: {level: debug, format: json}\n"
        "prometheus: {timeout_seconds: 3}",
        {},
    )

    assert waiting_for_restart(Config(), wanted) == (
        "prometheus.timeout_seconds",
        "state.directory",
    )
    assert waiting_for_restart(wanted, wanted) == ()


def test_documentation_is_current():
    """docs/configuration.md holds the table that the declarations yield."""
    page = (ROOT / reference.PAGE).read_text()

    assert reference.written_into(page) == page, (
        "run: python -m router.config.reference"
    )


def test_documentation_names_each_setting():
    """Every setting has a meaning, its default and its variable in the table."""
    table = reference.table()

    for section, name, field in settings():
        row = next(r for r in table.splitlines() if f"`{section}.{name}`" in r)
        assert field.description
        assert field.description in row
        assert ("yes" in row.split("|")[-2]) == needs_restart(field)
        assert variable(section, name) == f"INFEROPS_{section}__{name}".upper()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*Config.model_fields, "attempts", "url"]) | st.text(),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_document_is_accepted_or_rejected(content):
    """Nothing that YAML can say raises anything but ConfigError."""
    try:
        config = parse_config(yaml.safe_dump(content), {})
    except ConfigError as error:
        lines = str(error).splitlines()
        assert lines
        assert all(line.startswith("router.yml: ") for line in lines)
    else:
        assert isinstance(config, Config)

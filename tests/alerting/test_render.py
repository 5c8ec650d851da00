"""alertmanager.yml: rendered from what has secrets, valid for every combination."""

from __future__ import annotations

import itertools
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from alerting import render
from alerting.errors import RenderError
from tests.rules.catalogue import ALERTS, programs

SMTP = """\
smarthost: "mail.test:587"
sender: "inferops@fleet.test"
to: "a@fleet.test, b@fleet.test"
username: "inferops"
"""
SECRETS = {
    "router": {"webhook-token": "made-up-token"},
    "slack": {"slack-api-url": "https://slack.test/made/up"},
    "webhook": {"webhook-url": "https://people.test/hook"},
    "watchdog": {"watchdog-url": "https://switch.test/made-up"},
    "mail": {"smtp.yml": SMTP, "smtp-password": "made-up-password"},
}
COMBINATIONS = [
    chosen
    for count in range(len(SECRETS) + 1)
    for chosen in itertools.combinations(SECRETS, count)
]
AMTOOLS = programs("amtool")


def put(folder: Path, *chosen: str) -> Path:
    for name in chosen:
        for file, text in SECRETS[name].items():
            (folder / file).write_text(f"{text}\n")
    return folder


def text_of(folder: Path) -> str:
    return render.render(
        folder,
        secrets_at="/run/secrets",
        templates="/templates",
        router_url="http://router.test/webhook/alertmanager",
    )


def ran(*argv: str | Path) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return f"{done.stdout}{done.stderr}ended {done.returncode}"


@pytest.fixture(params=list[object](AMTOOLS) or [None], ids=str)
def amtool(request) -> Path:
    if request.param is None:
        pytest.skip("amtool is not on PATH")
    return request.param


@pytest.mark.parametrize("chosen", COMBINATIONS, ids="+".join)
def test_every_combination_is_valid(tmp_path, amtool, chosen):
    """Alertmanager's checker takes the file, whichever receivers have secrets."""
    file = tmp_path / "alertmanager.yml"
    file.write_text(text_of(put(tmp_path, *chosen)))
    assert ran(amtool, "check-config", file).endswith("ended 0")


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        pytest.param(
            ["alertname=GpuTooHot", "severity=critical", "action=drain", "node=a"],
            "router,people",
            id="an action rings the router and tells people",
        ),
        pytest.param(
            ["alertname=NodeDown", "severity=warning", "node=a"],
            "people",
            id="a warning tells people",
        ),
        pytest.param(
            ["alertname=FleetPanic", "severity=critical"],
            "people",
            id="so does an alert of no node",
        ),
        pytest.param(
            ["alertname=Watchdog", "severity=none"],
            "watchdog",
            id="the watchdog has a route of its own",
        ),
        pytest.param(
            ["alertname=GpuMemoryNearlyFull", "severity=info", "node=a"],
            "nobody",
            id="info is for dashboards",
        ),
    ],
)
def test_alerts_find_their_receivers(tmp_path, amtool, labels, receivers):
    """Alertmanager's own router sends each kind of alert where it belongs."""
    file = tmp_path / "alertmanager.yml"
    file.write_text(text_of(put(tmp_path, *SECRETS)))
    argv = ["config", "routes", "test", f"--config.file={file}"]
    output = ran(amtool, *argv, f"--verify.receivers={receivers}", *labels)
    assert output.startswith(f"{receivers}\n")
    assert output.endswith("ended 0")


def expected_of(rule) -> str:
    """Give who must hear of a rule, by the decisions: not by the routes."""
    if rule.name == "Watchdog":
        return "watchdog"
    heard = ["router"] if "action" in rule.labels else []
    heard += ["people"] if rule.labels["severity"] in {"critical", "warning"} else []
    return ",".join(heard) or "nobody"


@pytest.mark.parametrize(
    "rule", ALERTS, ids=lambda rule: f"{rule.name}-{rule.labels['severity']}"
)
def test_every_rule_finds_its_receivers(routes, amtool, rule):
    """Each rule that is shipped goes where its severity and action say."""
    argv = ["config", "routes", "test", f"--config.file={routes}"]
    labels = [f"{key}={value}" for key, value in rule.labels.items()]
    expected = expected_of(rule)
    verify = f"--verify.receivers={expected}"
    output = ran(amtool, *argv, verify, f"alertname={rule.name}", "node=a", *labels)
    assert output.endswith("ended 0"), output
    assert output.startswith(f"{expected}\n")


@pytest.fixture(scope="module")
def routes(tmp_path_factory) -> Path:
    """Give the file with every receiver."""
    folder = tmp_path_factory.mktemp("routes")
    (file := folder / "alertmanager.yml").write_text(text_of(put(folder, *SECRETS)))
    return file


def test_inhibition_spares_every_action(tmp_path):
    """Inhibition mutes for all receivers: no rule may hide an action from the bell."""
    inhibiting = yaml.safe_load(text_of(tmp_path))["inhibit_rules"]
    assert inhibiting
    assert all('action=""' in rule["target_matchers"] for rule in inhibiting)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        pytest.param(None, "http://127.0.0.1:3000", id="this machine's by default"),
        pytest.param("https://g.test/", "https://g.test", id="a file's, without slash"),
    ],
)
def test_links_begin_with_grafanas_address(tmp_path, file, expected):
    """Mail and Slack define the address in front of their text."""
    put(tmp_path, "mail", "slack")
    if file:
        (tmp_path / "grafana-url").write_text(f"{file}\n")
    (people,) = (
        each
        for each in yaml.safe_load(text_of(tmp_path))["receivers"]
        if each["name"] == "people"
    )
    begin = f'{{{{ define "inferops.grafana" }}}}{expected}{{{{ end }}}}'
    (mail,), (slack,) = people["email_configs"], people["slack_configs"]
    for text in (mail["text"], mail["html"], slack["text"]):
        assert text.startswith(begin)


def test_without_secrets_nobody_is_told(tmp_path):
    """A first start needs no secret, and no receiver is left half configured."""
    found = yaml.safe_load(text_of(tmp_path))
    assert found["receivers"] == [{"name": "nobody"}, {"name": "people"}]
    routed = [route["receiver"] for route in found["route"]["routes"]]
    assert routed == ["nobody", "people", "people"]


def test_the_bell_rings_at_once(tmp_path):
    """The router's route waits for nothing, and a node holds up no other."""
    routes = yaml.safe_load(text_of(put(tmp_path, "router")))["route"]["routes"]
    (bell,) = (route for route in routes if route["receiver"] == "router")
    assert bell == {
        "receiver": "router",
        "matchers": ['action!=""'],
        "group_by": ["alertname", "node"],
        "group_wait": "0s",
        "group_interval": "1s",
        "repeat_interval": "1m",
        "continue": True,
    }


def test_secrets_stay_in_their_files(tmp_path):
    """The file names the secrets' files; only URLs of webhooks are written out."""
    text = text_of(put(tmp_path, *SECRETS))
    assert "made-up-token" not in text
    assert "made-up-password" not in text
    assert "slack.test" not in text
    assert "credentials_file: /run/secrets/webhook-token" in text
    assert "smtp_auth_password_file: /run/secrets/smtp-password" in text
    assert "api_url_file: /run/secrets/slack-api-url" in text
    assert "url: https://people.test/hook" in text


def test_an_empty_secret_is_none(tmp_path):
    """An empty file, as a place holder, switches nothing on."""
    for files in SECRETS.values():
        for name in files:
            (tmp_path / name).write_text(" \n")
    (nothing := tmp_path / "nothing").mkdir()
    assert text_of(tmp_path) == text_of(nothing)


def test_same_secrets_same_text(tmp_path):
    """Rendering again changes nothing, so nothing is reloaded for nothing."""
    put(tmp_path, *SECRETS)
    assert text_of(tmp_path) == text_of(tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "slack-api-url",
            "hooks.slack.test/made/up",
            "must be one http or https URL, got something else",
        ),
        (
            "webhook-url",
            "https://a.test https://b.test",
            "must be one http or https URL, got something else",
        ),
        (
            "watchdog-url",
            "http://[::1/",
            "must be one http or https URL, got something else",
        ),
        ("smtp.yml", "just text", "must be a mapping, got 'just text'"),
        (
            "smtp.yml",
            'sender: "a@b"\nto: "c@d"',
            "smarthost: field required",
        ),
        (
            "smtp.yml",
            'smarthost: "mail.test"\nsender: "a@b"\nto: "c@d"',
            "smarthost: must be host:port, got 'mail.test'",
        ),
        (
            "smtp.yml",
            'smarthost: "mail.test:25"\nsender: "me"\nto: "c@d"',
            "sender: must be a mail address, got 'me'",
        ),
        (
            "smtp.yml",
            SMTP,
            "username: needs smtp-password beside it, got 'inferops'",
        ),
        (
            "smtp.yml",
            'smarthost: "mail.test:25"\nsender: "a@b"\nto: "c@d"\npassword: "made-up"',
            "password: unknown field",
        ),
    ],
    ids=[
        "a URL without scheme",
        "two URLs",
        "a broken URL",
        "mail settings that are no mapping",
        "no relay",
        "a relay without port",
        "a sender that is no address",
        "a login without password",
        "a password in the wrong file",
    ],
)
def test_a_wrong_secret_is_named(tmp_path, file, text, message):
    """The message names file and setting, and shows no secret."""
    (tmp_path / file).write_text(text)
    with pytest.raises(RenderError) as raised:
        text_of(tmp_path)
    assert str(raised.value) == f"{tmp_path / file}: {message}"
    assert "made-up" not in str(raised.value)


def test_command_writes_a_private_file(tmp_path):
    """The command replaces the file whole, readable by its owner alone."""
    out = tmp_path / "alertmanager.yml"
    out.write_text("old")
    out.chmod(0o644)
    secrets = put(tmp_path, "router")
    assert render.main(["--secrets", str(secrets), "--out", str(out)]) == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    found = yaml.safe_load(out.read_text())
    assert found["templates"] == ["/etc/inferops/alerting/templates/*.tmpl"]
    (bell,) = found["receivers"][-1]["webhook_configs"]
    token_file = bell["http_config"]["authorization"]["credentials_file"]
    assert token_file == str(secrets / "webhook-token")
    assert [each.name for each in tmp_path.iterdir()].count(out.name) == 1


@pytest.mark.parametrize(
    ("secrets", "out", "message"),
    [
        ("absent", "alertmanager.yml", "absent: must be a folder of secrets"),
        (".", "absent/alertmanager.yml", "absent/alertmanager.yml: cannot be written"),
    ],
    ids=["no secrets folder", "no folder to write to"],
)
def test_command_says_what_is_wrong(tmp_path, capsys, secrets, out, message):
    """The command ends with 1 and one line, and leaves no half-written file."""
    argv = ["--secrets", str(tmp_path / secrets), "--out", str(tmp_path / out)]
    assert render.main(argv) == 1
    assert f"{tmp_path}/{message}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

"""Every service is pinned, limited and as little privileged as it can be.

An exception stands here by name; docker-compose.yml gives the reason at its top.
"""

from __future__ import annotations

import re

import pytest
import yaml

from launcher.init import CONSUMERS
from router.config.load import parse_config
from tests.harness.process import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
AS_ROOT = {
    "ollama",
    "gpu-ollama",
    "init",
    "config-reloader",
    "dcgm-exporter",
    "open-webui",
    "tailscale",
}
WRITABLE = {"dcgm-exporter", "open-webui"}
GATHERERS = {"init", "config-reloader"}
CAPABILITIES = {each: ["CHOWN", "DAC_READ_SEARCH"] for each in GATHERERS}
NO_HEALTHCHECK = {"init", "dcgm-exporter"}
PROFILES = {
    "simulator": ["demo"],
    "exporter-gpu": ["gpu"],
    "dcgm-exporter": ["gpu"],
    "open-webui": ["chat"],
    "tailscale": ["tailscale"],
    "ollama": ["ollama"],
    "gpu-ollama": ["ollama-gpu"],
}


def those(services, check) -> set[str]:
    return {name for name, service in services.items() if check(service)}


def test_every_part_is_there(services) -> None:
    """Services and their profiles are as documented; the others always run."""
    always = {"init", "router", "prometheus", "alertmanager", "grafana", "exporter"}
    always |= {"node-exporter", "config-reloader"}

    assert always | set(PROFILES) == set(services)
    assert {
        name: service["profiles"]
        for name, service in services.items()
        if "profiles" in service
    } == PROFILES


def test_images_are_pinned(services) -> None:
    """Each image has a version in its tag."""
    loose = those(
        services, lambda each: not re.search(r":v?\d+\.\d+\.\d+", each["image"])
    )

    assert set() == loose


def test_open_webui_is_the_one_that_is_tried(services) -> None:
    """`make test-chat` installs the release that the profile `chat` runs."""
    tried = (ROOT / "tests" / "clients" / "open-webui.in").read_text()
    release = services["open-webui"]["image"].rpartition(":v")[2]

    assert f"open-webui=={release}" in tried.splitlines()


def test_the_dockerfile_is_pinned() -> None:
    """Its base has a full version, its packages come with hashes."""
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert {"$PYTHON", "runtime"} == set(bases)
    assert re.search(r"^ARG PYTHON=python:\d+\.\d+\.\d+-slim", DOCKERFILE, re.MULTILINE)
    assert "--require-hashes" in DOCKERFILE


def test_digests_are_of_the_same_images(services) -> None:
    """compose/digests.yml pins what runs, and says what it does not pin."""
    pinned = yaml.safe_load((ROOT / "compose" / "digests.yml").read_text())["services"]
    base = re.search(r"^ARG PYTHON=(\S+)", DOCKERFILE, re.MULTILINE)
    assert base

    for name, service in pinned.items():
        given = service["build"]["args"]["PYTHON"] if "build" in service else None
        tag, digest = (given or service["image"]).split("@")
        assert (base[1] if given else services[name]["image"]) == tag
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest), name
    others = {
        each["image"]
        for name, each in services.items()
        if name not in pinned and not each["image"].startswith("inferops")
    }
    assert {"dcgm-exporter", "ollama", "open-webui"} == {
        image.split("/")[-1].split(":")[0] for image in others
    }


# What answers healthchecks, by image: what each one's Dockerfile brings along.
PROGRAMS = {
    "inferops": {"python"},  # healthy in tests/compose/real
    "inferops-runtime": {"python"},
    "inferops-exporter": {"python"},
    "prometheus": {"wget", "sh"},  # BusyBox, from quay.io/prometheus/busybox
    "alertmanager": {"wget", "sh"},
    "node-exporter": {"wget", "sh"},
    "grafana": {"wget", "sh"},  # Alpine
    "tailscale": {"wget", "sh"},  # Alpine
    "open-webui": {"curl", "sh"},  # Debian, with curl for its own HEALTHCHECK
    "ollama": {"ollama"},  # Ubuntu, without an HTTP client
    "dcgm-exporter": set(),  # distroless
}


def test_healthchecks_use_what_the_image_has(services) -> None:
    """In both files; a healthcheck whose program is missing never gets healthy."""
    node = yaml.safe_load((ROOT / "compose" / "node.yml").read_text())["services"]
    for name, service in [*services.items(), *node.items()]:
        image = service["image"].split("/")[-1].split(":")[0]
        words = service.get("healthcheck", {}).get("test", ["CMD"])[1:2]
        assert set(words) <= PROGRAMS[image], name


def test_privileges(services) -> None:
    """Root, writable file systems and capabilities are listed exceptions."""
    assert AS_ROOT == those(services, lambda each: each["user"].startswith("0:"))
    assert WRITABLE == those(services, lambda each: not each["read_only"])
    assert set() == those(services, lambda each: each["cap_drop"] != ["ALL"])
    assert CAPABILITIES == {
        name: each["cap_add"] for name, each in services.items() if "cap_add" in each
    }
    no_new = ["no-new-privileges:true"]
    assert set() == those(services, lambda each: each["security_opt"] != no_new)


@pytest.mark.parametrize("key", ["privileged", "pid", "ipc", "devices", "userns_mode"])
def test_nothing_of_the_machine_is_shared(services, key) -> None:
    """No service gets a namespace or a device of the machine."""
    assert set() == those(services, lambda each: key in each)


def test_networks_are_the_projects_own(services) -> None:
    """Only init has another mode: no network at all."""
    modes = {
        name: each["network_mode"]
        for name, each in services.items()
        if "network_mode" in each
    }

    assert {"init": "none"} == modes


def test_limits(services) -> None:
    """Memory, processes and logs are bounded everywhere."""
    assert set() == those(services, lambda each: "mem_limit" not in each)
    assert set() == those(services, lambda each: "pids_limit" not in each)
    assert set() == those(
        services, lambda each: not each["logging"]["options"].get("max-size")
    )


def test_ports_are_on_loopback(services) -> None:
    """Nothing is published to other machines unless a person names an address."""
    published = {port for each in services.values() for port in each.get("ports", ())}

    own = r"(127\.0\.0\.1|\$\{INFEROPS_[A-Z_]+:-127\.0\.0\.1\}):.*:\d+"
    assert set() == {
        port
        for port in published
        if not re.fullmatch(own, re.sub(r"\$\{INFEROPS_\w+_PORT:-\d+\}", "", port))
        and not re.fullmatch(own, port)
    }


def test_health_is_checked(services) -> None:
    """Every service that can be asked is asked, without a shell."""
    assert NO_HEALTHCHECK == those(services, lambda each: "healthcheck" not in each)
    assert {"CMD"} == {
        each["healthcheck"]["test"][0]
        for each in services.values()
        if "healthcheck" in each
    }


def test_any_engine_will_do(services) -> None:
    """No healthcheck asks for what engines before 25 refuse."""
    assert set() == those(
        services, lambda each: "start_interval" in each.get("healthcheck", {})
    )


def test_the_router_starts_without_telemetry(services) -> None:
    """The router waits for nothing, and all telemetry starts after it.

    Compose also recreates what depends on a container that it recreates.
    """
    assert "depends_on" not in services["router"]
    before = {"init", "router", "simulator", "ollama", "gpu-ollama"}
    later = those(services, lambda each: "router" in each.get("depends_on", {}))
    assert set(services) - before == later


def test_what_a_machine_may_refuse_starts_last(services) -> None:
    """Disks and GPUs: a start that fails keeps nothing else from starting."""
    last = {"node-exporter", "exporter-gpu", "dcgm-exporter"}
    others = set(services) - last - set(PROFILES) - {"init"}

    for name in last:
        assert others <= set(services[name]["depends_on"]), name


def test_the_routers_image_changes_with_python_alone(services) -> None:
    """New code must not recreate its container: streams would end."""
    image = services["router"]["image"]
    base = re.search(r"^ARG PYTHON=python:([\d.]+)", DOCKERFILE, re.MULTILINE)
    runtime = DOCKERFILE.split("AS runtime")[1].split("FROM")[0]

    assert base
    assert f"inferops-runtime:{base[1]}" == image
    assert "runtime" == services["router"]["build"]["target"]
    assert "COPY" not in runtime


def test_one_service_builds(services) -> None:
    """More than one build of a tag would make a second `up` recreate containers."""
    ours = those(services, lambda each: each["image"].startswith("inferops:"))

    assert {"init", "router"} == those(services, lambda each: "build" in each)
    assert {"init": "build"} | dict.fromkeys(ours - {"init"}, "never") == {
        name: services[name]["pull_policy"] for name in ours
    }
    assert ours - {"init"} == {
        name for name in ours if "init" in services[name].get("depends_on", {})
    }


def test_clients_control_and_telemetry_are_apart(services) -> None:
    """Only the router is in all networks; what chats cannot reach who decides."""
    networks = {
        name: set(each["networks"])
        for name, each in services.items()
        if "network_mode" not in each
    }

    assert {"clients"} == networks["open-webui"] == networks["tailscale"]
    assert {"control"} == networks["alertmanager"] == networks["grafana"]
    assert {"control", "telemetry"} == networks["prometheus"]
    assert {"router"} == those(
        services, lambda each: len(each.get("networks", ())) == 3
    )


def test_dependencies_can_be_met(services) -> None:
    """Nothing depends on a service whose profile may be off, or on no condition."""
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            own = PROFILES.get(name, ())
            assert PROFILES.get(other, own) == own, f"{name} on {other}"
            wanted = {"service_completed_successfully"}
            if other != "init":
                wanted = {"service_healthy", "service_started"}
            assert how["condition"] in wanted, f"{name} on {other}"


def test_folders_are_mounted_not_files(services) -> None:
    """A file that an editor replaces would stay the old one in a container."""
    for name, service in services.items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).is_dir(), f"{name}: {volume}"


def test_only_state_is_writable(services, compose) -> None:
    """The repository is read-only for all, configuration for those who read it."""
    writable = {
        volume.split(":")[0]
        for name, service in services.items()
        for volume in service.get("volumes", ())
        if name not in GATHERERS and ":ro" not in volume
    }
    handed = {
        name
        for name in compose["volumes"]
        if "secrets" in name or name in {"configuration", "releases"}
    }

    assert set(compose["volumes"]) - handed == writable
    for name in GATHERERS:
        sources = {v for v in services[name]["volumes"] if "/source" in v}
        assert sources == {v for v in sources if v.endswith(":ro")}


def test_each_consumer_sees_its_own_secrets(services) -> None:
    """What init hands out and what a service mounts are the same volumes."""
    mounted = {
        name: [v.split(":")[0] for v in each.get("volumes", ()) if "secrets:/run" in v]
        for name, each in services.items()
        if name not in GATHERERS
    }

    expected = {each.volume: [f"{each.volume}-secrets"] for each in CONSUMERS}
    assert expected == {name: found for name, found in mounted.items() if found}


def test_a_consumer_is_who_owns_its_secrets(services) -> None:
    """The user of a service can read the files that init gives it."""
    users = {each.volume: services[each.volume]["user"] for each in CONSUMERS}

    assert {each.volume: str(each.uid) for each in CONSUMERS} == {
        name: user.split(":")[0] for name, user in users.items()
    }


def test_no_secret_is_in_the_file(services) -> None:
    """Secrets come as files, or from the person's own environment."""
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"KEY(?!S$)|TOKEN|PASSWORD|SECRET", variable):
                by_file = "FILE" in variable or "$$__file{" in value
                assert by_file or value == f"${{{variable}:-}}", f"{name}: {variable}"


def test_stopping_takes_no_longer_than_is_allowed(services) -> None:
    """The router may end its streams before it is killed."""
    shipped = (ROOT / "router" / "router.yml").read_text()
    grace = parse_config(shipped, {}).shutdown.grace_seconds

    assert float(services["router"]["stop_grace_period"].rstrip("s")) > grace

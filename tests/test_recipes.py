"""README's "Extend it", done in a scratch copy: each change, and where it shows.

No server runs: each copy is asked in a process of its own, as a person would.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent, indent

import pytest

from tests.harness.process import ROOT

FOLDERS = ["alerting", "docs", "exporters", "grafana", "prometheus", "router", "tests"]
PLUGINS = ("randomly", "cacheprovider")
SKIPPED = shutil.ignore_patterns("__pycache__", "evidence", "e2e", "compose", "chaos")


class Checkout:
    """A copy of what the recipes touch."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in FOLDERS:
            shutil.copytree(ROOT / name, root / name, ignore=SKIPPED)
        shutil.copy(ROOT / "pyproject.toml", root)

    def add(self, path: str, text: str) -> None:
        (self.root / path).write_text(dedent(text).lstrip())

    def append(self, path: str, text: str, spaces: int = 0) -> None:
        file = self.root / path
        file.write_text(file.read_text() + indent(dedent(text).lstrip(), " " * spaces))

    def insert(self, path: str, before: str, text: str) -> None:
        file = self.root / path
        found = file.read_text()
        assert found.count(before) == 1, (path, before)
        file.write_text(found.replace(before, text + before))

    def ran(self, *arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def says(self, code: str) -> str:
        """Run code in the copy; give what it prints."""
        status, output = self.ran("-c", dedent(code))
        assert status == 0, output
        return output.strip()

    def writes(self, module: str) -> None:
        status, output = self.ran("-m", module)
        assert status == 0, output

    def failed(self, *tests: str) -> list[str]:
        """Run tests in the copy; name those that fail."""
        plain = (
            "-q",
            "-rf",
            "--tb=no",
            "-n",
            "0",
            *(f"-pno:{name}" for name in PLUGINS),
        )
        status, output = self.ran("-m", "pytest", *plain, *tests)
        assert status in {0, 1}, output
        lines = [line for line in output.splitlines() if line.startswith("FAILED")]
        return [line.split(" - ")[0].partition("::")[2] for line in lines]

    def read(self, path: str) -> str:
        return (self.root / path).read_text()


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path / "checkout")


FORM = """
    from flask import Flask
    from router.web.pages import PageContext, pages_blueprint
    context = PageContext(None, lambda: [], lambda: 2**20)
    app = Flask("toy")
    app.register_blueprint(pages_blueprint(context))
    print(app.test_client().get("/jobs/new").text)
"""


@pytest.mark.long
def test_signal(checkout):
    """One entry is loaded and held to the vocabulary."""
    for name, query in (("toy", "node:up:ratio"), ("unknown", "node:toy:ratio")):
        entry = f"""
            - name: {name}
              query: {query}
              weight: 1
              worst: 0
              best: 1
        """
        checkout.append("router/signals.yml", entry, 2)
    check = "test_signal_reads_the_vocabulary"
    assert [f"{check}[unknown]"] == checkout.failed(
        f"tests/prometheus/test_vocabulary.py::{check}"
    )
    assert "toy" in checkout.says(
        """
        from pathlib import Path
        from router.config.signals import parse_signals
        text = Path("router/signals.yml").read_text()
        print([each.name for each in parse_signals(text)])
        """
    )


@pytest.mark.long
def test_alert(checkout):
    """A rule without a runbook and cases is refused; with them it is complete."""
    checkout.append(
        "alerting/rules/router.yml",
        """
        # A toy: any request waits.
        - alert: ToyQueue
          expr: inferops_queue_length > 0
          for: 10s
          labels:
            severity: info
            component: router
          annotations:
            summary: A toy fires
            description: A request waits.
            dashboard: /d/inferops-router
            runbook_url: "{{ $externalURL }}/user/ToyQueue.md"
        """,
        6,
    )
    checks = ("tests/rules/test_conventions.py", "tests/rules/test_promtool.py")
    chosen = (*checks, "-k", "ToyQueue or toy_alerts")
    refused = checkout.failed(*chosen)
    assert "test_alert_has_a_page[ToyQueue-info]" in refused
    assert len(refused) > 2
    checkout.add(
        "alerting/runbooks/ToyQueue.md",
        checkout.read("alerting/runbooks/RouterPassFailing.md")
        .replace("RouterPassFailing", "ToyQueue")
        .replace(
            "sum by (stage) (increase(inferops_control_pass_failures_total[1m])) > 0",
            "inferops_queue_length > 0",
        ),
    )
    checkout.add(
        "tests/rules/toy_alerts.test.yml",
        """
        rule_files: [../../alerting/rules/router.yml]
        evaluation_interval: 5s
        tests:
        - name: a toy
          external_url: http://prometheus.test
          interval: 5s
          input_series:
            - series: inferops_queue_length
              values: 0 1x5 0x5
          alert_rule_test:
            - {alertname: ToyQueue, eval_time: 10s}
            - alertname: ToyQueue
              eval_time: 15s
              exp_alerts:
                - exp_labels: {severity: info, component: router}
                  exp_annotations:
                    summary: A toy fires
                    description: A request waits.
                    dashboard: /d/inferops-router
                    runbook_url: http://prometheus.test/user/ToyQueue.md
            - {alertname: ToyQueue, eval_time: 40s}
        """,
    )
    assert [] == checkout.failed(*chosen)


def test_collector(checkout):
    """A file and a line: it has its flags, and its families are served."""
    checkout.add(
        "exporters/collectors/toy.py",
        '''
        """A toy."""

        from collections.abc import Iterator

        from prometheus_client import Metric

        from exporters.families import Family


        class ToyCollector:
            def collect(self, deadline: float) -> Iterator[Metric]:
                family = Family("inferops_toy", "a toy")
                family.add(1)
                yield family.metric()
        ''',
    )
    checkout.insert(
        "exporters/registry.py",
        "COLLECTORS = (",
        dedent(
            """
            def _toy(sources: Sources) -> Collector:
                from exporters.collectors.toy import ToyCollector

                return ToyCollector()


            """
        ),
    )
    checkout.insert(
        "exporters/registry.py",
        '    Entry(\n        "system",',
        '    Entry("toy", "never", lambda: False, _toy),\n',
    )
    assert "--collector.toy" in checkout.ran("-m", "exporters", "--help")[1]
    assert "inferops_toy 1" in checkout.says(
        """
        import time
        from exporters.gpu.settings import GpuSettings
        from exporters.registry import COLLECTORS, Sources, Switch, enabled
        switches = {entry.name: Switch.OFF for entry in COLLECTORS}
        sources = Sources("http://127.0.0.1:9", "http://127.0.0.1:9")
        built = enabled({**switches, "toy": Switch.ON}, sources)
        for family in built["toy"].collect(time.monotonic() + 1):
            print(family.samples[0].name, family.samples[0].value)
        """
    )


def test_reducer(checkout):
    """A file and a line: the form offers it, refusals list it, a job may have it."""
    checkout.add(
        "router/jobs/reducers/toy.py",
        checkout.read("router/jobs/reducers/keep.py")
        .replace("keep, ", "toy, ")
        .replace("def keep", "def toy")
        .replace("Keep each", "A toy")
        .replace("`map`", "`toy`"),
    )
    path = "router/jobs/reducers/__init__.py"
    checkout.insert(path, "tree, vote\n", "toy, ")
    checkout.insert(path, '    "vote": vote.KIND', '    "toy": toy.KIND,\n')
    assert "<strong>A toy</strong>" in checkout.says(FORM)
    assert checkout.says(
        """
        from router.jobs.reducers import check, reducer_for, samples, wave
        from router.errors import ReducerError
        toy = {"kind": "toy"}
        check(toy)
        print(type(reducer_for(toy, 3)).__name__, samples(toy), wave(toy, 2))
        try:
            check({"kind": "none"})
        except ReducerError as error:
            print(error)
        """
    ).splitlines() == [
        "Keep 1 0",
        (
            "reducer.kind: must be one of map, tree, concat, count, stats, toy, vote,"
            " got 'none'"
        ),
    ]
    check = "test_each_reducer_is_in_these_properties"
    assert [check] == checkout.failed(
        f"tests/router/jobs/reducers/test_any_order.py::{check}"
    )


def test_dataset_format(checkout):
    """A reader, its entry and its name: known by its ending, offered by the form."""
    checkout.insert(
        "router/jobs/input/readers/formats.py",
        "@dataclass(frozen=True, slots=True)\nclass DatasetFormat:",
        dedent(
            """
            @contextmanager
            def _toy(opening: Opening) -> Iterator[Reader]:
                with opening.text() as opened:
                    yield JsonLines(opened, opening.limits)


            """
        ),
    )
    checkout.insert(
        "router/jobs/input/readers/formats.py",
        "    Format.PARQUET: ",
        '    Format.TOY: DatasetFormat(_toy, "Toy", (".toy",)),\n',
    )
    checkout.insert("router/jobs/model.py", '    CSV = "csv"', '    TOY = "toy"\n')
    form = checkout.says(FORM)
    assert "Toy" in form
    assert ".toy," in form
    checkout.add("rows.toy", '{"a": 1}\n{"a": 2}\n')
    assert (
        checkout.says(
            """
        from pathlib import Path
        from router.jobs.input.readers import ReadLimits, format_of, open_dataset
        kind = format_of("rows.toy")
        limits = ReadLimits(10**6, 10**6, 10)
        with open_dataset(Path("rows.toy"), kind, limits) as dataset:
            print(kind.value, [row.fields["a"] for row in dataset.rows()])
        """
        )
        == "toy [1, 2]"
    )


def test_picker(checkout):
    """A function and a line: the setting takes it, reference and refusals list it."""
    checkout.insert(
        "router/pickers.py",
        '    "least_in_flight": ',
        '    "toy": lambda: SchedulingPolicy(lambda candidates: candidates[0]),\n',
    )
    assert checkout.says(
        """
        from router.config.load import parse_config
        from router.errors import ConfigError
        print(parse_config("dispatch: {picker: toy}", {}).dispatch.picker)
        try:
            parse_config("dispatch: {picker: none}", {})
        except ConfigError as error:
            print(error)
        """
    ).splitlines() == [
        "toy",
        (
            "router.yml: dispatch.picker: must be 'shortest_completion', 'toy',"
            " 'least_in_flight', 'weighted_least_in_flight', 'power_of_two', 'score',"
            " 'session', 'random' or 'round_robin', got 'none'"
        ),
    ]
    checkout.writes("router.config.reference")
    assert "shortest_completion, toy," in checkout.read("docs/configuration.md")


def test_panel(checkout):
    """A call: the check asks for the build, and the build writes it."""
    checkout.insert(
        "grafana/routing.py",
        'Section("Balance", Band(8, _shares(), _balance(), in_flight())),',
        'Section("Toys", Band(8, timeseries("Toy", "A toy.", [Query("up", "toy")],'
        ' Field("none", 0)))),\n            ',
    )
    status, output = checkout.ran("-m", "grafana.build", "--check")
    assert (status, "routing.json: not current" in output) == (1, True)
    checkout.writes("grafana.build")
    assert '"title": "Toy"' in checkout.read("grafana/dashboards/routing.json")


def test_setting(checkout):
    """A field: file, environment, bounds and the reference have it."""
    checkout.insert(
        "router/config/settings.py",
        "    default_slots: int = setting(",
        '    toy: int = setting(3, "how many toys", ge=1)\n',
    )
    assert checkout.says(
        """
        from router.config.load import parse_config
        from router.errors import ConfigError
        print(parse_config("", {}).dispatch.toy)
        print(parse_config("", {"INFEROPS_DISPATCH__TOY": "4"}).dispatch.toy)
        try:
            parse_config("dispatch: {toy: 0}", {})
        except ConfigError as error:
            print(error)
        """
    ).splitlines() == ["3", "4", "router.yml: dispatch.toy: must be >= 1, got 0"]
    checkout.writes("router.config.reference")
    row = "| `dispatch.toy` | `3` | how many toys |"
    assert row in checkout.read("docs/configuration.md")

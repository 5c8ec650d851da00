"""Each example of docs/jobs.md, run as it stands over a real router."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from router.cli.outcome import Exit
from router.jobs.input.filters import FILTERS
from router.jobs.reducers import REDUCERS
from tests.harness.ports import free_port
from tests.harness.process import ROOT
from tests.harness.router import Router
from tests.harness.simulator import Simulated, SimulatedFleet

TEXT = (ROOT / "docs/jobs.md").read_text()
BLOCKS = re.findall(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
# What the page calls `inferops` is on PATH in `.venv/bin` after `make up`.
INFEROPS = f'inferops() {{ "{ROOT}/launcher/inferops" "$@"; }}\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that the page shows, in an empty folder."""
    made = tmp_path_factory.mktemp("docs")
    for _, name, text in BLOCKS:
        if name:
            (made / name).write_text(text)
    return made


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    made = tmp_path_factory.mktemp("router")
    node = Simulated("one", slots=4, tokens_per_second=2000)
    with (
        SimulatedFleet(made / "fleet", [node]) as fleet,
        Router(made, fleet.inventory, prometheus_port=free_port()) as router,
    ):
        yield router


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("language", "text"),
    [(language, text) for language, name, text in BLOCKS if not name],
    ids=[
        f"{number} {language}"
        for number, (language, name, _) in enumerate(BLOCKS)
        if not name
    ],
)
def test_examples_run_as_they_stand(router, folder, language, text):
    """Whoever copies an example gets no error."""
    programs = {"sh": ["bash", "-eu", "-o", "pipefail"], "python": [sys.executable]}
    script = text.replace("http://127.0.0.1:8000", router.url)
    path = folder / f"example.{language}"
    path.write_text((INFEROPS if language == "sh" else "") + script)
    done = subprocess.run(
        [*programs[language], path],
        cwd=folder,
        env=os.environ | {"INFEROPS_URL": router.url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    assert done.stdout or done.stderr


def test_what_there_is_is_on_the_page():
    """Filters, reducers and exit codes that are added are documented, too."""
    missing = [name for name in FILTERS if not re.search(rf"`{name}\b", TEXT)]
    missing += [kind for kind in REDUCERS if f"| `{kind}` |" not in TEXT]
    missing += [str(code.value) for code in Exit if f"| {code.value} |" not in TEXT]
    assert [] == missing

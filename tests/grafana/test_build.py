"""The committed dashboards are what the code writes."""

from __future__ import annotations

import json

import pytest

from grafana import build


@pytest.fixture
def written(tmp_path):
    assert build.main([], tmp_path) == 0
    return tmp_path


def test_committed_dashboards_are_current(capsys):
    """`--check` on the repository's own files finds nothing to say."""
    assert (build.main(["--check"]), capsys.readouterr().err) == (0, "")


def test_writing_twice_gives_the_same_bytes(written, tmp_path_factory):
    """Nothing in a dashboard depends on when or where it was written."""
    other = tmp_path_factory.mktemp("other")
    build.write(other)
    assert {path.name for path in written.iterdir()} == set(build.BOARDS)
    for name in build.BOARDS:
        assert (written / name).read_bytes() == (other / name).read_bytes()


def test_an_edited_dashboard_is_named(written, capsys):
    """Who edited the JSON by hand hears which file, and what to run."""
    path = written / "overview.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "title": "Mine"}))
    assert build.main(["--check"], written) == 1
    assert capsys.readouterr().err == (
        f"{path}: not current, run `python -m grafana.build`\n"
    )


def test_a_missing_dashboard_is_named(written, capsys):
    """A deleted file is as stale as an edited one."""
    (written / "overview.json").unlink()
    assert build.main(["--check"], written) == 1
    assert "overview.json: not current" in capsys.readouterr().err


def test_a_dashboard_that_no_code_writes_is_named(written, capsys):
    """Grafana would load it, and no test would read it."""
    (written / "mine.json").write_text("{}")
    assert build.main(["--check"], written) == 1
    assert capsys.readouterr().err == (
        f"{written / 'mine.json'}: no code writes it, delete it or add it to "
        "grafana.build\n"
    )


def test_check_writes_nothing(tmp_path):
    """A check that repaired what it found could not fail in CI."""
    assert build.main(["--check"], tmp_path) == 1
    assert list(tmp_path.iterdir()) == []

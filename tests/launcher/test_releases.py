"""The router's code in a volume: what is copied, what is kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.releases import CURRENT, publish


@pytest.fixture
def image(tmp_path) -> tuple[Path, Path]:
    app, venv = tmp_path / "app", tmp_path / "venv"
    for path, text in (
        (app / "router" / "wsgi.py", "first"),
        (app / "router" / "__pycache__" / "wsgi.pyc", "made at one time"),
        (venv / "requirements.lock", "one==1"),
        (venv / "bin" / "gunicorn", ""),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (venv / "bin" / "python").symlink_to("/usr/bin/python3")
    return app, venv


@pytest.fixture
def volume(tmp_path) -> Path:
    folder = tmp_path / "release"
    folder.mkdir()
    return folder


def names(volume: Path, kind: str) -> set[str]:
    return {each.name for each in volume.glob(f"{kind}-*")}


def test_a_release_runs_from_the_volume(image, volume) -> None:
    """It has code and packages; the interpreter stays the link that it is."""
    app, venv = image
    assert publish(app, venv, volume)

    release = volume / CURRENT
    assert "first" == (release / "app" / "router" / "wsgi.py").read_text()
    assert "/usr/bin/python3" == str((release / "venv" / "bin" / "python").readlink())
    assert {CURRENT} == {p.name for p in volume.iterdir()} - names(volume, "*")


def test_the_same_code_is_no_new_release(image, volume) -> None:
    """Nor is it where only bytecode differs, as after a build without the cache."""
    app, venv = image
    publish(app, venv, volume)
    (app / "router" / "__pycache__" / "wsgi.pyc").write_text("at another")

    assert not publish(app, venv, volume)
    assert 1 == len(names(volume, "release"))


def test_other_code_and_other_packages_are_new_releases(image, volume) -> None:
    """Packages are copied again only when the lock file is another."""
    app, venv = image
    publish(app, venv, volume)
    (app / "router" / "wsgi.py").write_text("second")
    assert publish(app, venv, volume)
    assert (2, 1) == (len(names(volume, "release")), len(names(volume, "venv")))

    (venv / "requirements.lock").write_text("one==2")
    assert publish(app, venv, volume)
    assert (3, 2) == (len(names(volume, "release")), len(names(volume, "venv")))


def test_the_last_three_are_kept(image, volume) -> None:
    """A router may still finish streams with those; their packages stay too."""
    app, venv = image
    seen = []
    for number in range(5):
        (app / "router" / "wsgi.py").write_text(str(number))
        (venv / "requirements.lock").write_text(f"one=={number}")
        publish(app, venv, volume)
        seen.append((volume / CURRENT).readlink())
        for age, each in enumerate(reversed(seen)):  # file times are too coarse
            if (volume / each).exists():
                os.utime(volume / each, (-age, -age))

    assert {str(each) for each in seen[-3:]} == names(volume, "release")
    assert 3 == len(names(volume, "venv"))


def test_back_to_the_version_before(image, volume) -> None:
    """It is there still, and becomes the current one."""
    app, venv = image
    publish(app, venv, volume)
    first = (volume / CURRENT).readlink()
    (app / "router" / "wsgi.py").write_text("second")
    publish(app, venv, volume)
    (app / "router" / "wsgi.py").write_text("first")

    assert publish(app, venv, volume)
    assert first == (volume / CURRENT).readlink()


def test_a_copy_that_was_interrupted_is_made_again(image, volume) -> None:
    """What is not whole has no name of a release, and goes."""
    app, venv = image
    (volume / "venv-3.11.0-00.part" / "bin").mkdir(parents=True)

    publish(app, venv, volume)

    assert [] == list(volume.glob("*.part"))

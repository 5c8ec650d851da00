"""Alertmanager's login: one password, of which its web side keeps a hash."""

from __future__ import annotations

import bcrypt
import yaml

from launcher import webconfig


def hashes(path):
    return yaml.safe_load(path.read_text())["basic_auth_users"]


def test_the_hash_fits_the_password(tmp_path):
    """The password itself is not in the file that the web side reads."""
    password, web = tmp_path / "password", tmp_path / "web.yml"
    password.write_text("s3cret-of-256-bits\n")
    webconfig.ensure(web, password)
    assert "s3cret" not in web.read_text()
    assert bcrypt.checkpw(b"s3cret-of-256-bits", hashes(web)["inferops"].encode())
    assert web.stat().st_mode & 0o777 == 0o600


def test_it_is_written_anew_only_for_another_password(tmp_path):
    """A second start changes nothing; a file that makes no sense is replaced."""
    password, web = tmp_path / "password", tmp_path / "web.yml"
    password.write_text("first")
    webconfig.ensure(web, password)
    before = web.read_text()
    webconfig.ensure(web, password)
    assert before == web.read_text()
    password.write_text("second")
    webconfig.ensure(web, password)
    assert bcrypt.checkpw(b"second", hashes(web)["inferops"].encode())
    web.write_text("basic_auth_users: [")
    webconfig.ensure(web, password)
    assert bcrypt.checkpw(b"second", hashes(web)["inferops"].encode())

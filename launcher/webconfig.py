"""The login of Alertmanager's web side, which answers every web page otherwise.

Its API lets pages of all origins in, and no flag changes that: whatever page is open on
this machine could post alerts and silences. With a login a page gets 401, also to the
question that its browser asks first.
"""

from __future__ import annotations

from pathlib import Path

import bcrypt
import yaml

from launcher import files

USER = "inferops"
# As quick as it gets: the password has 256 random bits, so guessing needs no brake.
_ROUNDS = 4


def render(password: str) -> str:
    """Write the file that `--web.config.file` names."""
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(_ROUNDS)).decode()
    return yaml.safe_dump({"basic_auth_users": {USER: hashed}})


def client(password_file: Path) -> str:
    """Write the file that amtool's `--http.config.file` names."""
    login = {"username": USER, "password_file": str(password_file)}
    return yaml.safe_dump({"basic_auth": login})


def login(password_file: Path) -> tuple[str, str]:
    """Give user and password."""
    return USER, password_file.read_text(encoding="utf-8").strip()


def ensure(path: Path, password_file: Path) -> None:
    """Write the web side's file, unless the one that is there fits the password."""
    _, password = login(password_file)
    files.write(path, kept(path, password))


def kept(path: Path, password: str) -> str:
    """Return the text that is there if it fits the password, else another one."""
    return path.read_text("utf-8") if _fits(path, password) else render(password)


def _fits(path: Path, password: str) -> bool:
    try:
        users = yaml.safe_load(path.read_text(encoding="utf-8"))["basic_auth_users"]
        return bool(bcrypt.checkpw(password.encode(), users[USER].encode()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
        return False

"""supervisord, which keeps the parts running: its configuration, start, states, end.

Supervisor because it is small, pure Python (so the lock file brings it), and old
enough to have its faults known: restart with back-off, log rotation, ordered stop.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import xmlrpc.client
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.parsers.expat import ExpatError

import psutil
from supervisor.xmlrpc import SupervisorTransport

from launcher import files
from launcher.errors import LaunchError
from launcher.services import Paths, Service

# Every process of a run carries it, so that `down` finds what is left of one.
# (Not INFEROPS_…: those are the router's settings.)
MARK = "NATIVE_RUN_DIRECTORY"
_SOCKET_LIMIT = 107  # bytes, of the kernel

_SUPERVISORD = """\
[supervisord]
nodaemon=true
silent=true
logfile={logs}/supervisord.log
logfile_maxbytes=5MB
logfile_backups=1
pidfile={run}/supervisord.pid
directory={root}
{user}
[unix_http_server]
file={socket}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://{socket}
"""
_PROGRAM = """
[program:{name}]
command={command}
priority={priority}
autorestart=true
umask=077
startsecs=1
startretries=5
stopwaitsecs={stop_seconds}
killasgroup=true
redirect_stderr=true
stdout_logfile={logs}/{name}.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=3
"""


def socket_path(paths: Paths) -> Path:
    return paths.run / "supervisor.sock"


def configuration(parts: Iterable[Service], paths: Paths, *, root: bool = False) -> str:
    """Write supervisord.conf. `root`: it runs as root, and is to stay so."""
    head = _SUPERVISORD.format(
        root=_escaped(str(paths.root)),
        run=_escaped(str(paths.run)),
        logs=_escaped(str(paths.logs)),
        socket=_escaped(str(socket_path(paths))),
        user="user=root\n" if root else "",
    )
    programs = (_program(part, order, paths) for order, part in enumerate(parts))
    return head + "".join(programs)


def _program(part: Service, order: int, paths: Paths) -> str:
    # setpriv: ends with supervisord, even if that is killed; nothing is left behind.
    # env: supervisord's `environment` has no way to write a quote.
    variables = (f"{name}={value}" for name, value in part.env.items())
    argv = ("env", *variables, "setpriv", "--pdeathsig", "TERM", "--", *part.argv)
    return _PROGRAM.format(
        name=part.name,
        command=" ".join(map(_quoted, argv)),
        priority=order + 1,  # started in this order, stopped in the opposite one
        stop_seconds=part.stop_seconds,
        logs=_escaped(str(paths.logs)),
    )


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """Quote for supervisord, which reads values as a POSIX shell reads words."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_escaped(escaped)}"'


def start(parts: Iterable[Service], paths: Paths) -> subprocess.Popen[bytes]:
    """Start supervisord, which ends when this process does, however it ends."""
    if len(os.fsencode(socket_path(paths))) > _SOCKET_LIMIT:
        raise LaunchError(
            f"{socket_path(paths)} is too long a name for a socket: name a shorter"
            " folder with --run-dir"
        )
    files.private_folder(paths.logs)
    for name in ("alertmanager", "prometheus", "router", "grafana"):
        files.private_folder(paths.data / name)
    conf = paths.run / "supervisord.conf"
    files.write(conf, configuration(parts, paths, root=os.geteuid() == 0))
    return subprocess.Popen(
        [
            *("setpriv", "--pdeathsig", "TERM", "--"),
            *(sys.executable, "-m", "supervisor.supervisord", "-c", str(conf)),
        ],
        cwd=paths.root,
        env={**os.environ, MARK: str(paths.run)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the launcher alone
        umask=files.PRIVATE,  # of the logs; supervisord's own setting is for a daemon
    )


def states(paths: Paths) -> Mapping[str, str]:
    """Return each part's state in supervisord's words; empty when it is not there."""
    infos = _asked(paths, "getAllProcessInfo") or []
    assert isinstance(infos, list)  # noqa: S101  supervisord's own interface
    return {info["name"]: info["statename"] for info in infos}


def look_again(paths: Paths, name: str) -> bool:
    """Have a part look at its files (SIGHUP); tell whether it runs."""
    return bool(_asked(paths, "signalProcess", name, "HUP"))


def _asked(paths: Paths, what: str, *arguments: str) -> object:
    """Return supervisord's answer; None where there is none."""
    transport = SupervisorTransport(None, None, f"unix://{socket_path(paths)}")
    try:
        proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        return getattr(proxy.supervisor, what)(*arguments)
    except (OSError, http.client.HTTPException, xmlrpc.client.Error, ExpatError):
        return None
    finally:
        transport.close()


def left(paths: Paths) -> list[psutil.Process]:
    """Find every process of this run directory, of this user."""
    return [each for each in psutil.process_iter() if _marked(each, paths)]


def _marked(process: psutil.Process, paths: Paths) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.environ().get(MARK) == str(paths.run)
    except (psutil.Error, OSError):  # another user's, or ended meanwhile
        return False


def sweep(paths: Paths, *, seconds: float) -> int:
    """End what is left of a run; returns how many processes there were."""
    found = left(paths)
    pids = {process.pid for process in found}
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            # A live supervisord ends the others in order.
            if process.ppid() not in pids:
                process.send_signal(signal.SIGTERM)
    _, stubborn = psutil.wait_procs(found, timeout=seconds)
    for process in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=5)
    socket_path(paths).unlink(missing_ok=True)
    (paths.run / "supervisord.pid").unlink(missing_ok=True)
    return len(found)

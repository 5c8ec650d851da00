"""The router's jobs over HTTP, as the command line needs them.

The only file here that imports requests. Every call has a timeout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import orjson
import requests

from router.cli.outcome import Exit
from router.cli.upload import MultipartBody
from router.errors import innermost

T = TypeVar("T")

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 120.0
_PROBE_SECONDS = 3.0
# The router sends a comment each 15 s: silence for longer is a dead connection.
_SILENT_SECONDS = 45.0
_PIECE_BYTES = 64 * 1024


class CliError(Exception):
    """What the person is told before the command ends."""

    def __init__(self, message: str, exit_code: Exit) -> None:
        super().__init__(message)
        self.exit = exit_code


class LostError(CliError):
    """The router does not answer; it may do so later."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Exit.UNREACHABLE)


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """An event that a server sends; `data`: its JSON."""

    kind: str
    data: dict[str, Any]


class Client:
    """`url` is the router's base URL."""

    def __init__(
        self, url: str, token_file: Path | None = None, key: str | None = None
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise CliError(f"--url must begin with http://, got {url!r}", Exit.USAGE)
        self.url = url.rstrip("/")
        self._session = requests.Session()
        if token_file is not None:
            key = _token(token_file)
        if key:
            self._session.headers["Authorization"] = f"Bearer {key}"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session.close()

    def send(
        self,
        fields: Mapping[str, str],
        path: Path,
        sent: Callable[[int, int], None],
        to: str = "/v1/jobs",
    ) -> dict[str, Any]:
        """Upload a file with the fields of a form."""
        try:
            with path.open("rb") as file:
                form = MultipartBody(fields, path, file, sent)
                kind = {"Content-Type": form.content_type}
                return self._json("POST", to, data=form, headers=kind)
        except requests.RequestException:
            raise
        except OSError as error:
            text = f"{str(path)!r} cannot be read: {error.strerror}"
            raise CliError(text, Exit.USAGE) from error

    def post(self, path: str, body: object = None) -> dict[str, Any]:
        kind = {"Content-Type": "application/json"}
        data = orjson.dumps({} if body is None else body)
        return self._json("POST", path, data=data, headers=kind)

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        return self._json("GET", path, params=query)

    def answers(self, path: str) -> bool:
        """Say whether something answers there, soon."""
        try:
            return self._session.get(self.url + path, timeout=_PROBE_SECONDS).ok
        except requests.RequestException:
            return False

    def get_list(self, path: str) -> list[dict[str, Any]]:
        """Return a JSON list of objects."""
        return _expect(self._call("GET", path), list)

    def delete(self, path: str) -> dict[str, Any]:
        kind = {"Content-Type": "application/json"}
        return self._json("DELETE", path, headers=kind)

    def stream(self, path: str, **query: str | int) -> Iterator[bytes]:
        """Yield an answer's body in pieces."""
        answer = self._call("GET", path, stream=True, params=query)
        try:
            yield from answer.iter_content(_PIECE_BYTES)
        except requests.RequestException as error:
            raise LostError(f"the router went away: {_why(error)}") from error
        finally:
            answer.close()

    def events(self, job: str) -> Iterator[ServerEvent]:
        """Yield a job's events until the connection ends. Raises LostError."""
        answer = self._call(
            "GET", f"/v1/jobs/{job}/events", stream=True, silence=_SILENT_SECONDS
        )
        try:
            yield from events(answer.iter_lines(chunk_size=None))
        except requests.RequestException as error:
            raise LostError(f"the router went away: {_why(error)}") from error
        finally:
            answer.close()

    def _json(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        return _expect(self._call(method, path, **more), dict)

    def _call(
        self, method: str, path: str, *, silence: float = _ANSWER_SECONDS, **more: Any
    ) -> requests.Response:
        try:
            answer = self._session.request(
                method, self.url + path, timeout=(_CONNECT_SECONDS, silence), **more
            )
        except requests.RequestException as error:
            text = f"no router at {self.url} ({_why(error)}); --url says where it is"
            raise LostError(text) from error
        if answer.ok:
            return answer
        message = _message(answer)
        if answer.status_code >= 500:
            raise LostError(message)
        raise CliError(message, Exit.REFUSED)


def events(lines: Iterable[bytes]) -> Iterator[ServerEvent]:
    """Yield each whole event; comments and what is cut off are none."""
    kind = "message"
    data: list[bytes] = []
    for line in lines:
        if not line:
            if data:
                yield ServerEvent(kind, orjson.loads(b"\n".join(data)))
            kind, data = "message", []
            continue
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            kind = value.decode()
        elif name == b"data":
            data.append(value)


def _token(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(
            f"cannot read token file {str(path)!r}: {error}", Exit.USAGE
        ) from error


def _expect(answer: requests.Response, kind: type[T]) -> T:
    try:
        found = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, kind):
        raise CliError(
            f"{answer.request.url} did not answer as a router does", Exit.UNREACHABLE
        )
    return found


def _message(answer: requests.Response) -> str:
    """Return the router's own words, in either dialect's shape."""
    try:
        error = orjson.loads(answer.content)["error"]
        return str(error if isinstance(error, str) else error["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"{answer.request.url}: {answer.status_code} {answer.reason}"


def _why(error: BaseException) -> str:
    """Give the innermost cause in few words."""
    cause = innermost(error)
    return getattr(cause, "strerror", None) or str(cause)[:100] or "no answer"

"""Every error of the router that crosses a module's edge.

The class says who may retry and what the client hears; nothing else does.

    InferOpsError
    ├── ConfigError            a file of ours is wrong: file, path and value
    ├── PrometheusError        Prometheus did not answer, or refused a query
    ├── StateError             the state database cannot be read or written
    │   └── StateDamagedError        what is in it is no database, or no hold
    ├── SourceError            what somebody wrote is wrong, with line and column
    │   ├── DatasetError             a file cannot be used as a dataset
    │   └── TemplateError            a prompt template, or a row that does not fit it
    ├── ReducerError           how results are to be put together is not clear
    ├── RequestError           the client hears this: status, code, message
    │   ├── BadRequestError          400  malformed body, missing field
    │   ├── UnauthorizedError        401  token missing or wrong
    │   ├── ForbiddenError           403  a route that is shut
    │   ├── NotFoundError            404  no such model, node or path
    │   ├── BodyTimeoutError         408  the body did not arrive in time
    │   ├── ConflictError            409  not in this state of the thing
    │   ├── BodyTooLargeError        413
    │   ├── EndsRunnersError         422  a request that ended runners, twice
    │   ├── UnsupportedEncodingError 415  a Content-Encoding that is not read
    │   ├── OverloadedError          429  queue full or hopeless wait
    │   │   ├── BodiesFullError           bodies of other requests fill the memory
    │   │   └── RateLimitedError          a limit of the key, a tag or everybody
    │   ├── UnavailableError         503  no node may take this request
    │   │   └── BusyError                 no thread of the router has room or time
    │   ├── DeadlineError            504  the deadline passed
    │   └── DiskFullError            507  there is no room to keep it
    ├── CannotContinueError    a broken stream that must not go on elsewhere
    └── AttemptError           one try on one node failed
        ├── NotSentError             nothing reached the node: always retry
        ├── MaybeSentError           sent, but no reply head: retry, no effect kept
        │   └── GoneError                  and then nothing listened there any more
        ├── EvictedError             the node is being emptied: always retry
        └── RefusedError             the node answered that it cannot: retry elsewhere
            ├── UnclearError             a second node decides whose fault it is
            ├── OtherBuildError          wrong to this build: ask another
            ├── RouteMissingError        its release has no such route, others may
            └── RunnerDiedError          another request saw its runner die: retry
"""

from __future__ import annotations

from typing import Self


class InferOpsError(Exception):
    """The root."""

    def bare(self) -> Self:
        """Return it without its traceback and context, for whoever keeps it.

        Their frames hold bodies and, in a cycle, the error: all would stay in memory
        until the next full collection.
        """
        self.__traceback__ = self.__context__ = self.__cause__ = None
        return self


class ConfigError(InferOpsError):
    """A configuration file was rejected.

    The text is `file: path: what, got value`, one line for each fault.
    """


class PrometheusError(InferOpsError):
    """Prometheus did not answer in time, or refused the query."""


class StateError(InferOpsError):
    """The state database cannot be read or written."""


class StateDamagedError(StateError):
    """The file is there, and what is in it makes no sense: waiting mends nothing."""


class SourceError(InferOpsError):
    """What somebody wrote cannot be used; the text begins with the place."""

    def __init__(
        self, message: str, *, line: int | None = None, column: int | None = None
    ) -> None:
        super().__init__(at(line, column) + message)
        self.message = message
        self.line = line
        self.column = column


def at(line: int | None, column: int | None) -> str:
    """Give `line 7, column 12: `, or what is known of it."""
    known = [f"line {line}"] if line is not None else []
    known += [f"column {column}"] if column is not None else []
    return ", ".join(known) + ": " if known else ""


class DatasetError(SourceError):
    """A file as a whole cannot be used."""


class TemplateError(SourceError):
    """A prompt template cannot be used, or not with this row."""


class ReducerError(InferOpsError):
    """A reducer was asked for that there is not, or with fields that are wrong."""


class RequestError(InferOpsError):
    """What a client hears: a status, a stable code and a sentence."""

    status = 500
    code = "internal_error"

    def __init__(
        self, message: str, *, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_seconds = retry_after_seconds


class BadRequestError(RequestError):
    status = 400
    code = "invalid_request"


class ContextLimitError(BadRequestError):
    code = "context_length_exceeded"


class UnauthorizedError(RequestError):
    status = 401
    code = "unauthorized"


class ForbiddenError(RequestError):
    status = 403
    code = "forbidden"


class NotFoundError(RequestError):
    status = 404
    code = "not_found"


class BodyTimeoutError(RequestError):
    status = 408
    code = "body_timeout"


class ConflictError(RequestError):
    status = 409
    code = "conflict"


class BodyTooLargeError(RequestError):
    status = 413
    code = "body_too_large"


class EndsRunnersError(RequestError):
    """Not 5xx: clients repeat those by themselves, on the next node's runner."""

    status = 422
    code = "request_ends_runners"


class UnsupportedEncodingError(RequestError):
    status = 415
    code = "unsupported_encoding"


class OverloadedError(RequestError):
    status = 429
    code = "overloaded"


class BodiesFullError(OverloadedError):
    code = "bodies_full"


class RateLimitedError(OverloadedError):
    code = "rate_limit_exceeded"


class UnavailableError(RequestError):
    status = 503
    code = "unavailable"


class BusyError(UnavailableError):
    code = "busy"


class DeadlineError(RequestError):
    status = 504
    code = "deadline"


class DiskFullError(RequestError):
    status = 507
    code = "disk_full"


class CannotContinueError(InferOpsError):
    """Going on with a broken stream would be wrong, or cannot be proven right."""


class AttemptError(InferOpsError):
    """One try on one node failed before the client was sent anything.

    cause: a `router.model.Cause`; it decides nothing about who may retry
    charged: whether the node's circuits were told
    """

    reason = "error"
    charged = False

    def __init__(self, message: str, cause: str = "error") -> None:
        super().__init__(message)
        self.cause = cause


class NotSentError(AttemptError):
    reason = "not_sent"


class MaybeSentError(AttemptError):
    reason = "maybe_sent"


class GoneError(MaybeSentError):
    """The node closed the connection without a reply and then refused another."""


class EvictedError(AttemptError):
    """The request was moved off a node that is being emptied, not the node's doing."""

    reason = "evicted"


class RefusedError(AttemptError):
    """The node answered, and the answer speaks of the node, not of the request.

    status, headers, body: the answer, for a client to whom nothing better can be given
    """

    reason = "refused"

    def __init__(
        self,
        message: str,
        cause: str = "error",
        *,
        status: int,
        body: bytes,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message, cause)
        self.status = status
        self.body = body
        self.headers = headers


class UnclearError(RefusedError):
    """Nothing says whose fault it is: it is the request's if a second node agrees."""


class OtherBuildError(RefusedError):
    """The node says that the request is wrong; another build may think otherwise."""

    charged = True  # with nothing: the node is well


class RouteMissingError(RefusedError):
    """The node's release does not have the route: no fault of node or request."""

    reason = "route_missing"
    charged = True  # with nothing: the node is well


class RunnerDiedError(RefusedError):
    """The node told another request that the runner of both is dead."""

    reason = "runner_died"


def innermost(error: BaseException) -> BaseException:
    """Return what an error of a library began with: its own text is a chain of them."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error

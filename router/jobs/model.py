"""Values of jobs: job, item, result and what the planning sees; no I/O, no clock.

A job has items, and each item ends with exactly one result. Times are unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
RESPONSES = "/v1/responses"
# What OpenAI's batches take, and what a job over a dataset asks its nodes.
OPENAI_ENDPOINTS = frozenset({CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES})
DATASET_ENDPOINT = "/api/chat"

# Places of items that are not read from the job's file when they run: the database
# stores their request, or the columns that it is made of.
STORED_REQUEST = -1
STORED_FIELDS = -2

# Error codes of items that were never run.
CANCELLED = "batch_cancelled"
EXPIRED = "batch_expired"
NOT_NEEDED = "not_needed"
NOT_RUN = frozenset({CANCELLED, EXPIRED, NOT_NEEDED})


class JobState(StrEnum):
    """State of a job; OpenAI's names."""

    VALIDATING = "validating"  # its file is being read into items
    FAILED = "failed"  # its file cannot be used, or a bad line was not allowed
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"  # every item has its result; the reducer finishes
    COMPLETED = "completed"
    EXPIRED = "expired"  # its completion window is over
    CANCELLING = "cancelling"  # items in flight are being stopped
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        return self in _OVER


_OVER = frozenset(
    {JobState.FAILED, JobState.COMPLETED, JobState.EXPIRED, JobState.CANCELLED}
)


class ItemState(StrEnum):
    WAITING = "waiting"
    LEASED = "leased"  # a router has it until `leased_until`
    DONE = "done"  # it has an answer
    FAILED = "failed"  # it has an error: a dead letter
    CANCELLED = "cancelled"  # not run: the job was cancelled, or it was not needed

    @property
    def over(self) -> bool:
        return self not in {ItemState.WAITING, ItemState.LEASED}


class ItemKind(StrEnum):
    ROW = "row"
    MERGE = "merge"


class Format(StrEnum):
    """Format of a job's file."""

    OPENAI = "openai"  # a request on each line: custom_id, method, url, body
    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


class BadLines(StrEnum):
    """What happens if a line cannot be read."""

    FAIL_LINE = "fail_line"  # its item fails, the others run
    FAIL_JOB = "fail_job"


class Preemption(StrEnum):
    """What happens to an item in flight when an interactive request needs its node."""

    AFTER_ITEM = "after_item"  # it finishes first; no other item starts
    IMMEDIATE = "immediate"  # it is preempted and continues later

    @classmethod
    def _missing_(cls, value: object) -> Preemption | None:
        """Read what releases before 0.2 call it; also in stored jobs."""
        old = {"item": cls.AFTER_ITEM, "at_once": cls.IMMEDIATE}
        return old.get(value) if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class Span:
    """A time of day on some days of the week; may pass midnight.

    days:       0 for Monday to 6 for Sunday: those on which it begins
    start, end: minutes since midnight
    """

    days: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """When a job may run, in the time of `zone` (an IANA name)."""

    spans: tuple[Span, ...]
    zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job's terms, as they were asked for.

    endpoint:    path that each item is sent to
    file:        id of its file
    model:       canonical; "" where each line names its own
    template:    prompt over the columns; "" for Format.OPENAI
    system:      system prompt; "" for none
    options:     Ollama's options, as they are
    reducer:     `{"kind": "tree", "threshold": 8, …}`; `{"kind": "map"}` for none
    attempts:    tries of an item before it is a dead letter
    nodes:       most nodes that may run its items at one time; None for all
    seconds:     completion window, from its creation
    reading:     how to read the file: `encoding`, `delimiter`, `header`
    models:      patterns of the models that its items may use; empty: all
    """

    endpoint: str
    file: str
    format: Format
    model: str = ""
    template: str = ""
    system: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    reducer: Mapping[str, object] = field(default_factory=lambda: {"kind": "map"})
    bad_lines: BadLines = BadLines.FAIL_LINE
    preemption: Preemption = Preemption.AFTER_ITEM
    attempts: int = 3
    window: TimeWindow | None = None
    nodes: int | None = None
    seconds: float = 86_400.0
    metadata: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    reading: Mapping[str, object] = field(default_factory=dict)
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Counts:
    """Number of items by state, of rows or of merges."""

    waiting: int = 0
    leased: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        return self.waiting + self.leased + self.over

    @property
    def over(self) -> int:
        return self.done + self.failed + self.cancelled


@dataclass(frozen=True, slots=True)
class ItemFault:
    """Why a job or a line of its file cannot be used, or an item failed."""

    code: str
    message: str
    line: int | None = None
    column: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Tallies:
    """Costs of a job beside its results, summed over all routers.

    continued:     attempts that continued a partial answer
    wasted_tokens: generated tokens that are in no result
    reread_tokens: tokens of prompts and texts that were sent to a node again, also
                   where the node had them in its cache
    """

    retries: int = 0
    revoked: int = 0
    copies: int = 0
    wasted_tokens: int = 0
    continued: int = 0
    reread_tokens: int = 0

    def __add__(self, other: Tallies) -> Tallies:
        sums = (getattr(self, name) + getattr(other, name) for name in self.__slots__)
        return Tallies(*sums)


@dataclass(frozen=True, slots=True)
class Job:
    """A job and its state.

    openai:    made by `/v1/batches`
    rows:      number of items in its file; None while it is being read
    rows_read: rows of the file that have become items
    marks:     when it entered a state, by the state's name
    faults:    the first few faults of its file
    counts:    rows and merges by state, once it is over; None before
    tokens:    of prompts and of answers, once it is over
    notes:     what was guessed about its file or left out of it
    parked:    why it is not run until somebody resumes it; None if it is run
    starts:    times that its work was started without progress since
    account:   its owner (`router.access.principal`); empty: nobody
    principal: id of who made it
    """

    id: str
    spec: JobSpec
    state: JobState
    created: float
    openai: bool = False
    paused: bool = False
    rows: int | None = None
    rows_read: int = 0
    marks: Mapping[str, float] = field(default_factory=dict)
    faults: tuple[ItemFault, ...] = ()
    tallies: Tallies = Tallies()
    counts: tuple[Counts, Counts] | None = None
    tokens: tuple[int, int] = (0, 0)
    notes: tuple[str, ...] = ()
    parked: str | None = None
    starts: int = 0
    account: str = ""
    principal: str = ""

    @property
    def expires(self) -> float:
        return self.created + self.spec.seconds


@dataclass(frozen=True, slots=True)
class Item:
    """A request to be answered once; its key is unique within the job.

    key:    "7" for row 7, "7.2" for its third sample; a merge has its reducer's key
    index:  the row, from 0 (with k samples per row: row * k + sample)
    size:   bytes of the request, which is made when the item runs
    weight: expected duration in tokens; the heaviest run first
    wave:   priority tier: items of lower waves run before heavier ones
    tries:  failed attempts; a preemption does not count
    place:  where its row is in the job's file, or STORED_REQUEST, STORED_FIELDS
    """

    id: int
    job: str
    key: str
    kind: ItemKind
    index: int
    custom_id: str
    endpoint: str
    model: str
    size: int
    weight: float
    tries: int = 0
    wave: int = 0
    place: int = STORED_REQUEST


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item to be stored; one with a `fault` fails without having run.

    body: the request or the columns to store, as `place` says; b"" if its row is
          read again
    size: bytes of its request; 0: those of `body`
    """

    key: str
    kind: ItemKind
    index: int
    custom_id: str
    endpoint: str
    model: str
    body: bytes
    weight: float
    fault: ItemFault | None = None
    wave: int = 0
    place: int = STORED_REQUEST
    size: int = 0


@dataclass(frozen=True, slots=True)
class ItemResult:
    """How an item ended; written once.

    body:  the node's reply as JSON; b"" if there is none
    text:  the model's text in the reply; "" if there is none
    error: None for an answer
    """

    key: str
    kind: ItemKind
    index: int
    custom_id: str
    status: int
    body: bytes
    text: str
    node: str
    error: ItemFault | None = None
    request_id: str = ""
    prompt_tokens: int = 0
    generated_tokens: int = 0
    seconds: float = 0.0
    ended: float = 0.0

    @property
    def state(self) -> ItemState:
        if self.error is None:
            return ItemState.DONE
        not_run = self.error.code in NOT_RUN
        return ItemState.CANCELLED if not_run else ItemState.FAILED


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A stored file.

    purpose: `batch` (OpenAI lines), `dataset`, `batch_output`, `batch_error`
    job:     for an output, the job whose results it has
    account: its owner, as of a job
    """

    id: str
    name: str
    purpose: str
    size: int
    created: float
    job: str = ""
    expires: float | None = None
    account: str = ""


@dataclass(frozen=True, slots=True)
class ResultPage:
    """A page of a list: newest first unless `oldest_first`, after the id `after`."""

    limit: int = 20
    after: str = ""
    oldest_first: bool = False


# What the planning policy sees.


@dataclass(frozen=True, slots=True)
class FreeSlot:
    """An idle slot that no interactive request needs.

    in_flight: streams on the node, without this slot
    people:    those of interactive requests
    resident:  models in the node's memory
    models:    canonical names of the waiting jobs' models that it may run
    quiet:     seconds since the node's last interactive request
    """

    node: str
    in_flight: int
    resident: frozenset[str]
    models: frozenset[str]
    people: int = 0
    quiet: float = inf


@dataclass(frozen=True, slots=True)
class Pending:
    """A waiting item as the policy sees it.

    weight:  expected tokens of its answer
    prompt:  size of the prompt in tokens, roughly
    avoid:   nodes where it has failed
    had:     tokens of its partial answer
    home:    node with the prompt and the partial answer in its cache; "" for none
    opening: whether the first partial result of its job waits for it
    """

    id: int
    job: str
    model: str
    weight: float
    prompt: float = 0.0
    avoid: frozenset[str] = frozenset()
    had: float = 0.0
    home: str = ""
    opening: bool = False


@dataclass(frozen=True, slots=True)
class Backlog:
    """Number and total weight of all items that wait for one model."""

    items: int
    weight: float


@dataclass(frozen=True, slots=True)
class Running:
    """An attempt in flight; `copy`: it is the second one of its item."""

    item: Pending
    node: str
    since: float
    copy: bool = False


@dataclass(frozen=True, slots=True)
class StartItem:
    """Start this item on the free slot."""

    item: int


@dataclass(frozen=True, slots=True)
class StartCopy:
    """Start a second attempt at this item; the first to finish counts."""

    item: int


Choice = StartItem | StartCopy

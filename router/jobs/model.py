"""Values that jobs are spoken of in; no I/O, no clock.

A job has items; each item ends with exactly one result. Times are unix seconds.
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

# Places of items that are not read from the job's file when their turn comes: their
# request is stored, or the columns that it is made of.
STORED_REQUEST = -1
STORED_FIELDS = -2

# Codes of results of what was never run.
CANCELLED = "batch_cancelled"
EXPIRED = "batch_expired"
NOT_NEEDED = "not_needed"
NOT_RUN = frozenset({CANCELLED, EXPIRED, NOT_NEEDED})


class JobState(StrEnum):
    """Where a job stands; OpenAI's words."""

    VALIDATING = "validating"  # its file is read, items come into being
    FAILED = "failed"  # its file cannot be used, or a bad line was not allowed
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"  # every item has its result; the reducer ends
    COMPLETED = "completed"
    EXPIRED = "expired"  # its completion window is over
    CANCELLING = "cancelling"  # items in flight are being closed
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        return self in _OVER


_OVER = frozenset(
    {JobState.FAILED, JobState.COMPLETED, JobState.EXPIRED, JobState.CANCELLED}
)


class ItemState(StrEnum):
    WAITING = "waiting"
    LEASED = "leased"  # some router has it in hand, until `lease_until`
    DONE = "done"  # a result with an answer
    FAILED = "failed"  # a result with an error: the dead letters
    CANCELLED = "cancelled"  # not run: the job was cancelled, or it was not needed

    @property
    def over(self) -> bool:
        return self not in {ItemState.WAITING, ItemState.LEASED}


class ItemKind(StrEnum):
    ROW = "row"
    MERGE = "merge"


class Format(StrEnum):
    """What a job's file holds."""

    OPENAI = "openai"  # a request a line: custom_id, method, url, body
    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


class BadLines(StrEnum):
    """What a line that cannot be read means."""

    FAIL_LINE = "fail_line"  # its item fails, the others run
    FAIL_JOB = "fail_job"


class Preemption(StrEnum):
    """What an item in flight does when an interactive request needs its node."""

    AFTER_ITEM = "after_item"  # it ends first; no new one starts
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
    """What was asked for; kept with the job as it is.

    endpoint:    path that each item is sent to
    model:       canonical; "" where each line names its own
    template:    prompt over the columns; "" for Format.OPENAI
    system:      system prompt; "" for none
    options:     Ollama's options, as they are
    reducer:     `{"kind": "tree", "threshold": 8, …}`; `{"kind": "map"}` for none
    attempts:    tries of an item before it is a dead letter
    nodes:       most nodes that may run its items at one time; None for all
    reading:     what was said of the file: `encoding`, `delimiter`, `header`
    seconds:     completion window, from its creation on
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
    """Items of a job by state; merges are counted beside them."""

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
    """Why a job, or a line of its file, cannot be used."""

    code: str
    message: str
    line: int | None = None
    column: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Tallies:
    """What a job cost beside its results, summed over all routers.

    continued:     attempts that went on from the text of one before
    wasted_tokens: generated, and not part of any result
    reread_tokens: of prompts and texts that were given to a node once more; where
                   its cache still has them it reads nothing
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
    """A job as it stands.

    rows:   items that its file gave; None while it is still being read
    rows_read: rows of the file that are items already
    marks:  when it entered a state, by the state's name
    faults: the first few only
    counts:  items and merges, once it is over; None before
    tokens:  of prompts and answers, once it is over
    openai:  made by `/v1/batches`
    notes:   what was guessed about its file or left out of it
    parked:  why it is not run any more until somebody resumes it; None where it is
    starts:  times that its work was begun without getting any further since
    account: whose it is (`router.access.principal`: an owner); empty: nobody's
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
    """A request to be sent once, under a key that is unique within its job.

    key:    "7" for row 7, "7.2" for its third sample; a reducer's for a merge
    index:  the row, from 0 (with k samples a row: row * k + sample)
    size:   bytes of the request, which is read or made when its turn comes
    weight: how long it should take, in tokens; the longest are taken first
    wave:   but of lower waves first, which the reducer wants early
    tries:  failed ones; being taken back for a person is none
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
    """An item that is to be; with `fault` it fails without having run.

    body: what is stored of it, as `place` says; b"" where its row is read again
    size: bytes of its request, where that is not `body`
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

    body:  the node's reply, JSON; b"" where there is none
    text:  what the model said, taken out of it; "" where there is none
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
    """A file that is kept.

    purpose: `batch` (OpenAI lines), `dataset`, `batch_output`, `batch_error`
    job:     for an output: the job whose results it shows
    account: whose it is, as of a job
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
    """Which part of a list is wanted, newest first unless `oldest_first`."""

    limit: int = 20
    after: str = ""
    oldest_first: bool = False


# What the policy looks at.


@dataclass(frozen=True, slots=True)
class FreeSlot:
    """A slot of a node that is idle, and that no person wants.

    in_flight: streams there now, this one not counted
    people:    those of them that people wait for
    resident:  models in its memory
    models:    canonical names of what it may run of the jobs that wait
    quiet:     seconds since a person's request was there
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
    avoid:   nodes where it failed already
    had:     tokens of its answer that are there already
    home:    node that has prompt and answer so far in its cache; "" for none
    opening: the first partial result of its job waits for it
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
    """All that waits for one model, those included that are not in the window."""

    items: int
    weight: float


@dataclass(frozen=True, slots=True)
class Running:
    """An attempt in flight; `copy`: the second one of its item."""

    item: Pending
    node: str
    since: float
    copy: bool = False


@dataclass(frozen=True, slots=True)
class StartItem:
    """Give this item to the free slot."""

    item: int


@dataclass(frozen=True, slots=True)
class StartCopy:
    """Run this item there a second time; the first to finish counts."""

    item: int


Choice = StartItem | StartCopy

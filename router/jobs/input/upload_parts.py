"""Uploads in parts (OpenAI's Uploads): stored on disk until they are completed.

Each upload is a folder with its parts and a description. It expires after an hour and
is then removed. All disk access runs in a native thread.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import orjson

from router.errors import BadRequestError, ConflictError, NotFoundError
from router.jobs.input.uploads import PendingUpload, Uploads, on_disk, pieces_of
from router.runtime.whole_file import write_whole

SECONDS = 3600.0
MOST_PARTS = 10_000
_ABOUT = "upload.json"
_ID = re.compile(r"(upload|part)_[0-9a-f]{24}")
PENDING, COMPLETED, CANCELLED = "pending", "completed", "cancelled"


@dataclass(frozen=True, slots=True)
class PartedUpload:
    """An upload in parts; `size` in bytes, as announced. Times are unix seconds.

    expires: when the completed file expires; None: never
    file:    id of the completed file
    account: its owner
    """

    id: str
    filename: str
    purpose: str
    size: int
    created: float
    status: str = PENDING
    expires: float | None = None
    file: str = ""
    account: str = ""

    @property
    def over_at(self) -> float:
        return self.created + SECONDS


class PartedUploads:
    """Keeps uploads in parts on the disk until they are completed or expire."""

    def __init__(self, folder: Path, uploads: Uploads) -> None:
        self._folder = folder
        self._uploads = uploads
        self._busy: set[str] = set()

    def create(
        self,
        filename: str,
        purpose: str,
        size: int,
        expires: float | None,
        account: str = "",
    ) -> PartedUpload:
        """Raises DiskFullError, UnavailableError."""
        made = PartedUpload(
            _new_id("upload"),
            filename,
            purpose,
            size,
            time.time(),
            expires=expires,
            account=account,
        )
        self._uploads.check_room(size)

        def write() -> None:
            self._path(made.id).mkdir(parents=True)
            self._write(made)

        on_disk(write)
        return made

    def get(self, upload: str) -> PartedUpload:
        """Raises NotFoundError."""
        if not _ID.fullmatch(upload):
            raise NotFoundError(f"no upload {upload!r}")
        try:
            text = on_disk((self._path(upload) / _ABOUT).read_bytes)
        except NotFoundError:
            raise NotFoundError(f"no upload {upload!r}") from None
        return PartedUpload(**orjson.loads(text))

    def pending(self, upload: str) -> PartedUpload:
        """Return an upload that is not over. Raises NotFoundError, ConflictError."""
        found = self.get(upload)
        if found.status != PENDING:
            raise ConflictError(f"upload {upload!r} is {found.status}")
        if time.time() >= found.over_at:
            raise ConflictError(f"upload {upload!r} has expired: begin it again")
        return found

    def add(self, upload: str, draft: PendingUpload) -> str:
        """Store a part; return its id.

        Raises NotFoundError, ConflictError, BadRequestError if it is too large.
        """
        found = self.pending(upload)
        sizes = on_disk(lambda: self._sizes(upload))
        if len(sizes) >= MOST_PARTS:
            raise BadRequestError(f"an upload has at most {MOST_PARTS:,} parts")
        if sum(sizes.values()) + draft.size > found.size:
            raise BadRequestError(
                f"data: the parts are larger than the {found.size:,} bytes that the"
                " upload was to have"
            )
        draft.seal()
        part = _new_id("part")
        draft.keep(self._path(upload) / part)
        return part

    def complete(
        self,
        upload: str,
        parts: Sequence[str],
        md5: str,
        keep: Callable[[PartedUpload, PendingUpload], str],
    ) -> PartedUpload:
        """Join parts in this order; `keep` stores the file and returns its id.

        Raises NotFoundError, ConflictError, BadRequestError.
        """
        with self._alone(upload):
            found = self.pending(upload)
            sizes = on_disk(lambda: self._sizes(upload))
            for part in parts:
                if part not in sizes:
                    raise BadRequestError(f"part_ids: no part {part[:40]!r}")
            total = sum(sizes[part] for part in parts)
            if total != found.size or len(set(parts)) < len(parts):
                raise BadRequestError(
                    f"part_ids: the parts have {total:,} bytes together, the upload was"
                    f" to have {found.size:,}; name each part once"
                )
            draft = self._uploads.draft()
            try:
                if md5 not in {"", self._joined(upload, parts, draft)}:
                    raise BadRequestError("md5: the parts have another checksum")
                done = replace(found, status=COMPLETED, file=keep(found, draft))
            finally:
                draft.discard()
            on_disk(lambda: self._end(done))
            return done

    def cancel(self, upload: str) -> PartedUpload:
        """Cancel an upload, delete its parts. Raises NotFoundError, ConflictError."""
        with self._alone(upload):
            done = replace(self.pending(upload), status=CANCELLED)
            on_disk(lambda: self._end(done))
            return done

    def sweep(self) -> None:
        """Remove expired uploads."""
        on_disk(self._sweep)

    @contextmanager
    def _alone(self, upload: str) -> Iterator[None]:
        if upload in self._busy:
            raise ConflictError(f"upload {upload!r} is being completed")
        self._busy.add(upload)
        try:
            yield
        finally:
            self._busy.discard(upload)

    def _joined(self, upload: str, parts: Sequence[str], draft: PendingUpload) -> str:
        """Write the parts into a draft; return their MD5 checksum."""
        checksum = hashlib.md5(usedforsecurity=False)
        for part in parts:
            for piece in pieces_of(self._path(upload) / part):
                checksum.update(piece)
                draft.write(piece)
        return checksum.hexdigest()

    # In a native thread

    def _path(self, upload: str) -> Path:
        return self._folder / upload

    def _sizes(self, upload: str) -> dict[str, int]:
        return {
            path.name: path.stat().st_size
            for path in self._path(upload).iterdir()
            if _ID.fullmatch(path.name)
        }

    def _write(self, upload: PartedUpload) -> None:
        write_whole(self._path(upload.id) / _ABOUT, orjson.dumps(asdict(upload)))

    def _end(self, upload: PartedUpload) -> None:
        """Store the final state and delete the parts."""
        self._write(upload)
        for name in self._sizes(upload.id):
            (self._path(upload.id) / name).unlink(missing_ok=True)

    def _sweep(self) -> None:
        if not self._folder.is_dir():
            return
        horizon = time.time() - SECONDS
        for path in self._folder.iterdir():
            about = path / _ABOUT
            begun = (about if about.exists() else path).stat().st_mtime
            if begun < horizon and path.name not in self._busy:
                shutil.rmtree(path, ignore_errors=True)


def _new_id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(12)}"

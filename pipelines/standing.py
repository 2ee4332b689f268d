"""What stands in the folder that a run is about to write: nothing, the run's own work, or what it must not touch."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from typing import Any

from pipelines import files
from pipelines.descriptions import NAMES as DESCRIPTIONS
from pipelines.errors import JobError, UsageError
from pipelines.ingest.shards import Shard
from pipelines.layout import PLACES, WORK, Layout
from pipelines.sealing import refuse_signed

_OWN_NAMES = {p.value for p in PLACES} | {"statistics", "summary.json", "report.html", "README.md", WORK}
_OWN_NAMES |= {"index", "superseded.parquet", "seal", *DESCRIPTIONS}


def standing(layout: Layout, digest: str, shards: Sequence[Shard], overwrite: bool) -> dict[str, Any] | None:
    """The summary of an output that is this very job's and whole, or None where there is something to do.

    Raises UsageError where that would write over what is signed, is another job's (unless `overwrite`), or is no run's.

    Args:
        layout: of the output.
        digest: of the job.
        shards: its input.
        overwrite: whether another job's output may be replaced.
    """
    output = layout.output
    if files.is_local(output) and os.path.exists(output) and not os.path.isdir(output):
        raise UsageError(f"output: {output} is a file; name a folder")
    summary = files.read_json(layout.summary)
    if summary is None:
        foreign = _foreign(output)
        if foreign:
            raise UsageError(f"output: {output} holds other files ({foreign[0]} …); name an empty folder")
        return None
    if summary.get("job", {}).get("digest") == digest and not _changed_since(layout, shards):
        return summary
    refuse_signed(output)
    if not overwrite:
        raise UsageError(
            f"output: {output} holds a finished run of another job, input or version; "
            "name another --output, or replace it with --overwrite"
        )
    return None


@contextlib.contextmanager
def claimed(layout: Layout) -> Iterator[None]:
    """Makes the output folder, and keeps a second run out of it while this one lasts (on a local filesystem)."""
    output = layout.output
    try:
        files.write_bytes(files.join(layout.work, "started"), b"")
    except OSError as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"output: {output} cannot be written: {reason}") from None
    if not files.is_local(output):
        yield
        return
    with open(files.join(layout.work, "lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise JobError(f"{output}: another run is writing here; wait for it, or name another --output") from None
        yield


def _changed_since(layout: Layout, shards: Sequence[Shard]) -> bool:
    """Whether a shard is younger than the output that was made of it."""
    (written,) = files.listing(layout.summary)
    return any(shard.modified > written.last_updated_in_seconds for shard in shards)


def _foreign(output: str) -> list[str]:
    if files.is_local(output):
        return sorted(set(os.listdir(output)) - _OWN_NAMES) if os.path.isdir(output) else []
    below = (m.path[len(output) :].lstrip("/").split("/")[0] for m in files.listing(files.join(output, "**")))
    return sorted(set(below) - _OWN_NAMES)

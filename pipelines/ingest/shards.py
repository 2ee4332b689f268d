"""Globs to shards: which files a job reads, and the name that each goes by in the output.

A shard's name is its path below the fixed part of its glob, so that outputs do not depend on where a crawl is stored::

    find_shards(["/data/crawl/*.warc.gz"])[0].name == "part-0000.warc.gz"
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from pipelines import files
from pipelines.errors import UsageError

_WILD = "*?["


class Shard(NamedTuple):
    """One input file."""

    name: str  # how it is called in the output; unique in a job
    path: str
    size: int  # bytes
    modified: float  # seconds since the epoch, as the filesystem says


def find_shards(patterns: Sequence[str]) -> list[Shard]:
    """All files that match, each once, sorted by name whatever the order of the patterns.

    Raises UsageError where there is no pattern, or where one matches no file.
    """
    if not patterns:
        raise UsageError("input: nothing to read; name shards with --input GLOB or the job's key 'input'")
    found: dict[str, Shard] = {}
    for pattern in patterns:
        if files.is_local(pattern) and os.path.isdir(pattern):
            raise UsageError(
                f"input: {pattern} is a folder; name the shards in it, for instance '{pattern.rstrip('/')}/*.gz'"
            )
        base = _fixed_part(pattern)
        try:
            matches = files.listing(pattern)
        except (OSError, ValueError) as error:
            raise UsageError(f"input: {pattern} cannot be listed: {_root_cause(error)}") from None
        matches = [m for m in matches if not files.is_temporary(m.path)]
        if not matches:
            raise UsageError(f"input: {pattern} matches no file; check the path, and quote globs in the shell")
        for m in matches:
            name = m.path[len(base) :].lstrip("/\\") if m.path.startswith(base) else m.path.rsplit("/", 1)[-1]
            found.setdefault(m.path, Shard(name, m.path, m.size_in_bytes, m.last_updated_in_seconds))
    return sorted(_unique(list(found.values())), key=lambda shard: (shard.name, shard.path))


def _fixed_part(pattern: str) -> str:
    wild = min((pattern.find(c) for c in _WILD if c in pattern), default=len(pattern))
    return pattern[: pattern.rfind("/", 0, wild) + 1]


def _unique(shards: list[Shard]) -> list[Shard]:
    """Gives shards of one name, from different folders, as many of their parent folders as tell them apart."""
    levels = Counter[str]()
    while True:
        counts = Counter(shard.name for shard in shards)
        clashing = {name for name, n in counts.items() if n > 1}
        if not clashing:
            return shards
        renamed = []
        for shard in shards:
            if shard.name in clashing:
                levels[shard.path] += 1
                parts = shard.path.split("/")
                depth = shard.name.count("/") + 2
                shard = shard._replace(name="/".join(parts[-depth:]))
            renamed.append(shard)
        shards = renamed


def _root_cause(error: BaseException) -> str:
    details = getattr(error, "exception_details", None)
    if details:
        error = next(iter(details.values()))
    return " ".join(str(error).split()) or type(error).__name__

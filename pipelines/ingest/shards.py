"""Globs, URLs and lists of paths to shards: which files a job reads, and the name that each goes by in the output.

A shard's name is its path below the fixed part of its glob, or what the list says, so that outputs do not depend on
where a crawl is stored::

    find_shards(["/data/crawl/*.warc.gz"])[0].name == "part-0000.warc.gz"
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pipelines import files
from pipelines.errors import UsageError, one_line
from pipelines.ingest.path_lists import MARK, is_list, read_list

_WILD = "*?["


class Shard(NamedTuple):
    """One input file."""

    name: str  # how it is called in the output; unique in a job
    path: str
    size: int  # bytes
    modified: float  # seconds since the epoch, as the filesystem says


def find_shards(patterns: Sequence[str], base: str | None = None) -> list[Shard]:
    """All files that the inputs name, each once, sorted by name whatever the order of the inputs.

    Args:
        patterns: globs; URLs; lists of paths, told by their name (`*.paths`, `*.paths.gz`) or by an ``@`` before it.
        base: the folder or server in which the relative entries of lists lie; None: looked for near the list.

    Raises UsageError where there is no input, or where one names no file or one that is not there.
    """
    if not patterns:
        raise UsageError("input: nothing to read; name shards with --input GLOB or the job's key 'input'")
    found: dict[str, Shard] = {}
    for pattern in patterns:
        for shard in _of_pattern(pattern, base):
            known = found.setdefault(shard.path, shard)
            # Inputs that overlap may name one file in two ways; the choice must not depend on their order.
            found[shard.path] = min(known, shard, key=lambda s: (len(s.name), s.name))
    return sorted(_unique(list(found.values())), key=lambda shard: (shard.name, shard.path))


def _of_pattern(pattern: str, base: str | None) -> Iterator[Shard]:
    marked, pattern = pattern.startswith(MARK), pattern.removeprefix(MARK)
    if files.is_local(pattern) and os.path.isdir(pattern):
        raise UsageError(
            f"input: {pattern} is a folder; name the shards in it, for instance '{pattern.rstrip('/')}/*.gz'"
        )
    try:
        matches = files.listing(pattern)
    except (OSError, ValueError) as error:
        cause = _root_cause(error)
        raise UsageError(f"input: {cause if pattern in cause else f'{pattern} cannot be listed: {cause}'}") from None
    except UsageError as error:
        raise UsageError(f"input: {error}") from None
    matches = [m for m in matches if not files.is_temporary(m.path)]
    if not matches:
        raise UsageError(f"input: {pattern} matches no file; check the path, and quote globs in the shell")
    fixed = _fixed_part(pattern)
    for m in matches:
        if marked or is_list(m.path):
            yield from (Shard(*listed) for listed in read_list(m.path, base))
        else:
            yield Shard(_name(m.path, fixed), m.path, m.size_in_bytes, m.last_updated_in_seconds)


def _name(path: str, fixed: str) -> str:
    if files.is_http(path):  # what follows a '?' is often a signature, and never where the crawl says the file is
        path = path.partition("?")[0]
    return (path[len(fixed) :].lstrip("/\\") if path.startswith(fixed) else "") or path.rsplit("/", 1)[-1]


def _fixed_part(pattern: str) -> str:
    if files.is_http(pattern):
        wild = pattern.partition("?")[0].rfind("/") + 1
    else:
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
    return one_line(error)

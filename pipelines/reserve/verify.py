"""Verification: is an archive, to the last bit, what its seal says?

Every file is read once. Its SHA-256 is compared with the manifest, the manifest's with the log, the log's tiles and
entries with the root, the root with the signed checkpoint. From the rows of the archive the document entries are made
again, and compared with the log. A file's digest covers its texts; they are hashed one by one where a file has changed.

    >>> result = verify("out", [read_verifier(Path("reserve.vkey"))])  # doctest: +SKIP
    >>> result.whole, result.problems  # doctest: +SKIP
    (True, [])
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from cryptography.x509 import Certificate

from pipelines import files
from pipelines.errors import JobError, UsageError
from pipelines.layout import Layout
from pipelines.records import Place
from pipelines.reserve.audits import audit_problems, stated
from pipelines.reserve.chain import Chain, chain_of
from pipelines.reserve.damage import Kind, Problem, changed_file, examine, not_as_sealed, unmatched
from pipelines.reserve.encoding import Bytes
from pipelines.reserve.entries import DOC_ID, DOCUMENT, DOCUMENT_BYTES, PLACES
from pipelines.reserve.leaves import GroupError, part_groups
from pipelines.reserve.manifest import FileDigest, digest_file, outside_seal, read_manifest
from pipelines.reserve.note import NoteError, Verifier, parse_vkey, verify_note
from pipelines.reserve.proofs import verify_consistency
from pipelines.reserve.seal import CHECKPOINT, KEYS, MANIFEST, Sealed, context_digest, key_file, read_seal
from pipelines.reserve.tile_files import WIDTH, strays
from pipelines.reserve.tiles import TileReader
from pipelines.reserve.timestamps import read_stamps
from pipelines.reserve.unsealed import PartEntries, merged, write_entries

_MOST: Final = 20  # problems of one kind that are told one by one
_STAMPS: Final = "timestamps"


@dataclass
class Verified:
    """What was found.

    Attributes:
        problems: the first is the first in the order of checks: seal, log, files, documents.
        sealed: the seal; None where there is none.
        chain: releases, withdrawals and audits; None where the log cannot be read.
        signed_by: keys whose signatures hold.
        trusted: whether these are keys that the caller gave; else the archive's own, which anyone can have put there.
        files: how many were compared with the manifest, and of how many bytes.
        documents: how many document entries were made again; None where only names and sizes were looked at.
        since: size of the earlier log that this one was shown to go on from.
        stamps: what the time stamps say, and how far that was checked.
    """

    problems: list[Problem] = field(default_factory=list)
    sealed: Sealed | None = None
    chain: Chain | None = None
    signed_by: tuple[Verifier, ...] = ()
    trusted: bool = False
    files: int = 0
    bytes_read: int = 0
    documents: int | None = None
    since: int | None = None
    stamps: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether nothing differs."""
        return not self.problems


def verify(
    output: str,
    keys: Sequence[Verifier] = (),
    quick: bool = False,
    since: Sealed | None = None,
    roots: Sequence[Certificate] = (),
    workers: int = 2,
) -> Verified:
    """Compares an output with its seal.

    Args:
        output: the folder.
        keys: public keys that must have signed it; none: the archive's own are taken, and nobody's word is proved.
        quick: read only the seal, and of the files their names and sizes.
        since: an earlier seal, of which only the checkpoint is used: the log must go on from it.
        roots: certificates of time-stamping authorities that are trusted.
        workers: threads that read files.

    Raises UsageError where the folder is not there or holds no seal.
    """
    layout, result = Layout(output), Verified()
    try:
        result.sealed = sealed = read_seal(layout.seal)
    except JobError as error:
        result.problems.append(Problem(Kind.CHECKPOINT, _inside(CHECKPOINT), str(error)))
        return result
    if sealed is None:
        raise UsageError(f"{output}: holds no seal (no {layout.name(layout.seal)}/{CHECKPOINT})")
    _signatures(sealed, keys, result)
    _time_stamps(sealed, roots, result)
    reader = sealed.reader()
    _log(sealed, reader, result)
    if result.problems and result.chain is None:
        return result
    assert result.chain is not None
    if since is not None:
        _consistency(since, reader, keys, result)
    manifest = _manifest(sealed, result)
    if manifest is not None:
        _summary(layout, manifest, reader, result)
        _files(layout, manifest, reader, quick, workers, result)
    return result


def _inside(*parts: str) -> str:
    return "/".join(("seal", *parts))


def _signatures(sealed: Sealed, keys: Sequence[Verifier], result: Verified) -> None:
    own = []
    ids = {(signature.name, signature.key_id) for signature in sealed.note.signatures}
    for path in _listed(sealed.folder, KEYS):
        name = _inside(KEYS, path.rsplit("/", 1)[-1])
        try:
            verifier = parse_vkey(files.read_bytes(path).decode("utf-8", "replace"), name)
        except UsageError as error:
            result.problems.append(Problem(Kind.SIGNATURE, name, str(error).removeprefix(f"{name}: ")))
            continue
        if (verifier.name, verifier.key_id) not in ids or not name.endswith(key_file(verifier)):
            result.problems.append(Problem(Kind.ADDED_FILE, name, "a key that has signed nothing here"))
        else:
            own.append(verifier)
    result.trusted = bool(keys)
    missing = ids - {(verifier.name, verifier.key_id) for verifier in own}
    for name, key_id in sorted(missing):
        detail = f"the public key of {name}+{key_id.hex()} is missing"
        result.problems.append(Problem(Kind.MISSING_FILE, _inside(KEYS, f"{key_id.hex()}.vkey"), detail))
    # Given keys first: they are whom the caller trusts. The archive's own have to hold as well.
    for verifier in dict.fromkeys((*keys, *own)):
        try:
            verify_note(sealed.note, [verifier], _inside(CHECKPOINT))
            result.signed_by += (verifier,)
        except (NoteError, UsageError) as error:
            detail = str(error).removeprefix(f"{_inside(CHECKPOINT)}: ")
            result.problems.append(Problem(Kind.SIGNATURE, _inside(CHECKPOINT), detail))


def _time_stamps(sealed: Sealed, roots: Sequence[Certificate], result: Verified) -> None:
    try:
        result.stamps = tuple(stamp.statement for stamp in read_stamps(sealed.folder, roots))
    except JobError as error:
        path = f"{sealed.folder}/"
        result.problems.append(Problem(Kind.TIME_STAMP, _inside(_STAMPS), str(error).removeprefix(path)))


def _log(sealed: Sealed, reader: TileReader, result: Verified) -> None:
    """The tiles up to the root, and what its entries say of each other."""
    extra = list(strays(sealed.folder, [sealed.checkpoint.size]))
    for path in extra[:1]:
        detail = f"belongs to no log of {sealed.checkpoint.size:,} entries"
        if len(extra) > 1:
            detail += f", nor do {len(extra) - 1} other files: the checkpoint may be an earlier one that was put back"
        result.problems.append(Problem(Kind.LOG, _inside(path[len(sealed.folder) :].lstrip("/")), detail))
    known = {CHECKPOINT, MANIFEST}
    for path in _listed(sealed.folder):
        if (name := path[len(sealed.folder) :].lstrip("/")) not in known and name.split("/")[0] not in (
            "tile",
            KEYS,
            _STAMPS,
        ):
            result.problems.append(Problem(Kind.ADDED_FILE, _inside(name), "belongs to no seal"))
    for error in islice(reader.problems(), _MOST):
        detail = str(error).removeprefix(f"{error.path}: ")
        result.problems.append(Problem(Kind.LOG, _inside(error.path[len(sealed.folder) :].lstrip("/")), detail))
    try:
        result.chain = chain_of(reader)
    except JobError as error:
        result.problems.append(Problem(Kind.LOG, "seal", str(error)))


def _consistency(since: Sealed, reader: TileReader, keys: Sequence[Verifier], result: Verified) -> None:
    earlier = since.checkpoint
    try:
        if keys:
            verify_note(since.note, keys, CHECKPOINT)
        proof = reader.consistency_proof(earlier.size)
        verify_consistency(earlier.size, reader.size, earlier.root, reader.root(), proof)
        result.since = earlier.size
    except (JobError, ValueError) as error:
        detail = f"does not go on from the earlier log of {earlier.size:,} entries: {error}"
        result.problems.append(Problem(Kind.LOG, _inside(CHECKPOINT), detail))


def _manifest(sealed: Sealed, result: Verified) -> dict[str, FileDigest] | None:
    assert result.chain is not None
    try:
        content = sealed.manifest()
        if hashlib.sha256(content).hexdigest() == result.chain.manifest:
            return read_manifest(content)
        detail = "is not the one that was sealed"
    except FileNotFoundError:
        detail = "is missing"
    except (OSError, ValueError) as error:
        detail = str(error)
    result.problems.append(Problem(Kind.MANIFEST, _inside(MANIFEST), detail))
    return None


def _summary(layout: Layout, manifest: Mapping[str, FileDigest], reader: TileReader, result: Verified) -> None:
    """What `summary.json` says of the seal and the audit; its bytes are compared with the others'."""
    assert result.chain is not None
    assert result.sealed is not None
    latest = result.chain.latest
    summary = files.read_json(layout.summary) or {}
    said, origin = summary.get("seal") or {}, result.sealed.checkpoint.origin
    name = layout.name(layout.summary)
    if summary.get("records", {}) != {"in": sum(latest.release.records.values()), **latest.release.records}:
        result.problems.append(Problem(Kind.COUNTS, name, "its counts of records are not those of the release"))
    if (said.get("size"), said.get("root")) != (latest.at, reader.root_of(0, latest.at).hex()):
        result.problems.append(Problem(Kind.COUNTS, name, "its root is not that of the documents"))
    if said.get("origin") != origin:
        result.problems.append(Problem(Kind.CHECKPOINT, _inside(CHECKPOINT), f"of the log {origin!r}, not of this one"))
    result.problems += audit_problems(result.chain, manifest, summary)


class _Part(NamedTuple):
    """What reading one file gave: its digest, its problems, and where its entries lie."""

    found: FileDigest
    problems: list[Problem]
    entries: PartEntries | None
    rows: int


def _files(
    layout: Layout, manifest: Mapping[str, FileDigest], reader: TileReader, quick: bool, workers: int, result: Verified
) -> None:
    assert result.chain is not None
    paths = {layout.name(path): path for path in outside_seal(layout)}
    result.problems += _names(manifest, paths)
    both = [name for name in manifest if name in paths]
    result.files = len(both)
    if quick:
        for name in both:
            size = files.stat(paths[name]).size_in_bytes
            if size != manifest[name].size:
                found = digest_file(paths[name], name)
                result.problems.append(changed_file(paths[name], manifest[name], found))
        return
    context = context_digest(result.chain.latest.release.context)
    documents = _Sealed(reader, result.chain)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(max(1, workers)) as pool:
        scratch = {name: Path(folder) / str(number) for number, name in enumerate(both)}
        read = pool.map(lambda name: _read(paths[name], manifest[name], context, scratch[name]), both)
        parts = dict(zip(both, read, strict=True))
        changed = {name for name, part in parts.items() if part.found != manifest[name]}
        for name in sorted(changed):
            result.problems += _changed(paths[name], manifest[name], parts[name].found, context, documents)
        result.bytes_read = sum(part.found.size for part in parts.values())
        result.documents = sum(part.rows for part in parts.values())
        entries = [part.entries for part in parts.values() if part.entries]
        # What a changed file lost has been told, but for the documents that it holds no more.
        told = {problem.doc_id for problem in result.problems}
        differing = (not_as_sealed(*one) for one in unmatched(documents.chunks(), merged(entries)))
        fresh = (problem for problem in differing if problem.doc_id not in told)
        result.problems += islice(fresh, _MOST)
    if not changed and not result.problems:
        _counts(layout, result)


def _names(manifest: Mapping[str, FileDigest], paths: Mapping[str, str]) -> list[Problem]:
    """Files that are missing, added or renamed."""
    problems = []
    missing = {one.sha256: name for name, one in manifest.items() if name not in paths}
    for name in sorted(set(paths) - set(manifest)):
        earlier = missing.pop(digest_file(paths[name], name).sha256, None)
        if earlier:
            problems.append(Problem(Kind.RENAMED_FILE, name, f"was sealed as {earlier}"))
        else:
            problems.append(Problem(Kind.ADDED_FILE, name, "was not sealed"))
    problems += [Problem(Kind.MISSING_FILE, name, "was sealed, and is not there") for name in sorted(missing.values())]
    return problems


def _read(path: str, sealed: FileDigest, context: bytes, scratch: Path) -> _Part:
    """Digests one file and, where it is a part with documents, makes its entries again."""
    try:
        found = digest_file(path, sealed.file)
    except OSError as error:
        raise JobError(f"{path}: cannot be read: {error.strerror or error}; nothing is known of it") from None
    place = _place(sealed.file)
    if place is None:
        return _Part(found, [], None, 0)
    groups = [group for group in part_groups(path, place, context, texts=False) if not isinstance(group, GroupError)]
    counts = write_entries(str(scratch), [group.entries for group in groups])
    return _Part(found, [], PartEntries(str(scratch), counts), sum(counts))


def _changed(path: str, sealed: FileDigest, found: FileDigest, context: bytes, documents: _Sealed) -> list[Problem]:
    first, place = changed_file(path, sealed, found), _place(sealed.file)
    if place is None:
        return [first]
    problems = examine(path, sealed.file, place, context, documents.lookup)
    if not problems:
        detail = f"{first.detail}; no document there differs: headers, statistics or padding of the file were changed"
        return [first._replace(detail=detail)]
    return [first, *problems[:_MOST]]


def _place(name: str) -> Place | None:
    folder = name.split("/")[0]
    return next((place for place in PLACES if place.value == folder and name.endswith(".parquet")), None)


def _counts(layout: Layout, result: Verified) -> None:
    """Rejects are no documents: of them the log holds only how many there are."""
    assert result.chain is not None
    folder = files.join(layout.output, Place.REJECTS.value, "*.parquet")
    rows = 0
    for found in files.listing(folder):
        with files.open_read(str(found.path)) as stream:
            rows += pq.ParquetFile(stream).metadata.num_rows
    wanted = result.chain.latest.release.records[Place.REJECTS.value]
    if rows != wanted:
        result.problems.append(
            Problem(Kind.COUNTS, Place.REJECTS.value, f"{rows:,} rejects, and {wanted:,} were sealed")
        )


class _Sealed:
    """The document entries of the latest release, without those of withdrawn documents."""

    def __init__(self, reader: TileReader, chain: Chain) -> None:
        self._reader, self._latest = reader, chain.latest
        self._withdrawn = chain.withdrawn

    def chunks(self) -> Iterator[Bytes]:
        """(n, 188), in the order of the log. Raises JobError where an entry is no document's."""
        first, end = self._latest.first, self._latest.at
        for number in range(first // WIDTH, -(-end // WIDTH)):
            begin = number * WIDTH
            bundle = self._reader.bundle(number)[max(0, first - begin) : max(0, end - begin)]
            at = max(first, begin)
            if any(at <= index < at + len(bundle) for index in self._withdrawn):
                bundle = [entry for index, entry in enumerate(bundle, at) if index not in self._withdrawn]
            if {len(entry) for entry in bundle} - {DOCUMENT_BYTES} or any(e[:2] != DOCUMENT for e in bundle):
                raise JobError(f"{_inside('tile', 'entries')}: an entry among the documents is none")
            yield np.frombuffer(b"".join(bundle), np.uint8).reshape(-1, DOCUMENT_BYTES)

    def lookup(self, wanted: set[bytes]) -> dict[bytes, list[Bytes]]:
        """The entries of these documents, by `doc_id`."""
        found: dict[bytes, list[Bytes]] = {}
        for entry in chain.from_iterable(self.chunks()):
            key = entry[DOC_ID].tobytes()
            if key in wanted:
                found.setdefault(key, []).append(entry)
        return found


def _listed(folder: str, *parts: str) -> list[str]:
    pattern = files.join(folder, *parts, "**" if not parts else "*")
    return [str(found.path) for found in files.listing(pattern)]


def report(result: Verified) -> dict[str, Any]:
    """The result as JSON types."""
    sealed, latest = result.sealed, result.chain.latest if result.chain else None
    audits = result.chain.audits if result.chain else ()
    return {
        "whole": result.whole,
        "problems": [problem._asdict() for problem in result.problems],
        "origin": sealed.checkpoint.origin if sealed else None,
        "size": sealed.checkpoint.size if sealed else None,
        "root": sealed.checkpoint.root.hex() if sealed else None,
        "release": latest.release.number if latest else None,
        "withdrawals": len(result.chain.withdrawals) if result.chain else None,
        "audit": stated(audits[-1][1]) if audits else None,
        "signed_by": [str(verifier) for verifier in result.signed_by],
        "key_given": result.trusted,
        "files": result.files,
        "bytes": result.bytes_read,
        "documents": result.documents,
        "consistent_since": result.since,
        "time_stamps": list(result.stamps),
        "captured_before": latest.release.captured_before if latest else None,
    }

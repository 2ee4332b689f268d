"""Sealing: the entries of a run become a log, and its checkpoint is signed. The seal is all files below ``OUT/seal``.

======================  ============================================================================================
``tile/``               the log: hashes and entries (:mod:`pipelines.reserve.tiles`)
``manifest.jsonl``      every other file of the output (:mod:`pipelines.reserve.manifest`)
``checkpoint``          origin, size and root of the log, signed (:mod:`pipelines.reserve.note`), or the text alone
``keys/``               the public keys that it is signed with
``timestamps/``         what others attest of the checkpoint's time
======================  ============================================================================================

The log of a release is that of the release before it and, after it, the release's documents and one release entry,
whose manifest digest covers every file. Withdrawals and audits come after that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import Final, NamedTuple

import numpy as np

from pipelines import files
from pipelines.errors import UsageError
from pipelines.records import canonical_time
from pipelines.reserve.chain import chain_of
from pipelines.reserve.checkpoint import Checkpoint, parse_checkpoint
from pipelines.reserve.encoding import Bytes
from pipelines.reserve.entries import CAPTURED, DOCUMENT_BYTES, Release
from pipelines.reserve.note import Note, Signature, Signer, Verifier, parse_note, sign_note, verify_note
from pipelines.reserve.tile_files import TileError, TileFolder, strays, tiles_of
from pipelines.reserve.tiles import EMPTY, TileReader, TileWriter, Tree

UNSIGNED: Final = "human-reserve/unsigned"  # the origin of a log that nobody has signed or named
CHECKPOINT, MANIFEST, KEYS = "checkpoint", "manifest.jsonl", "keys"


class Sealed(NamedTuple):
    """A seal as it lies on disk; nothing of it is checked but its form."""

    folder: str
    note: Note
    checkpoint: Checkpoint

    @property
    def tree(self) -> Tree:
        """What the checkpoint says of the log."""
        return Tree(self.checkpoint.size, self.checkpoint.root)

    def reader(self) -> TileReader:
        """The log; whatever is read of it is checked against the checkpoint."""
        return TileReader(self.folder, self.tree)

    def manifest(self) -> bytes:
        """The manifest as it lies there."""
        return files.read_bytes(files.join(self.folder, MANIFEST))


class Sealing(NamedTuple):
    """What a run seals with.

    Attributes:
        origin: the name of the log.
        signers: keys; none: the seal is unsigned.
        context: digests in hex of what decided, by name; None where there is no such thing.
        earlier: the release that this one goes on from.
    """

    origin: str
    signers: tuple[Signer, ...]
    context: Mapping[str, str | None]
    earlier: Sealed | None = None

    @property
    def digest(self) -> bytes:
        """32 bytes: the context as it stands in document entries."""
        return context_digest(self.context)


def context_digest(context: Mapping[str, str | None]) -> bytes:
    """SHA-256 of the context as a release entry writes it: JSON, sorted keys, no white space."""
    text = json.dumps(dict(context), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).digest()


def read_seal(folder: str) -> Sealed | None:
    """The seal in a folder; None where there is no checkpoint. Raises JobError where that is malformed."""
    path = files.join(folder, CHECKPOINT)
    if not files.exists(path):
        return None
    return parse_seal(files.read_bytes(path), path)._replace(folder=folder)


def parse_seal(content: bytes, source: str) -> Sealed:
    """A checkpoint on its own, as of a seal whose folder is not at hand. Raises JobError where it is malformed."""
    note = parse_note(content, source, unsigned=True)
    return Sealed("", note, parse_checkpoint(note.text, source))


def sealing(
    signers: Sequence[Signer], origin: str | None, context: Mapping[str, str | None], earlier: Sealed | None
) -> Sealing:
    """What a run seals with, once it is clear that it can.

    Raises UsageError where the earlier release has another origin, or is signed by none of the keys.
    """
    named = origin or (signers[0].name if signers else None)
    if earlier is None:
        return Sealing(named or UNSIGNED, tuple(signers), context)
    theirs = earlier.checkpoint.origin
    if named not in (None, theirs):
        raise UsageError(f"seal.after: the log of {earlier.folder} is {theirs}, not {named}; give seal.origin={theirs}")
    if earlier.note.signatures:
        check_continued(earlier, [signer.verifier for signer in signers])
    return Sealing(theirs, tuple(signers), context, earlier)


def check_continued(earlier: Sealed, verifiers: Sequence[Verifier]) -> None:
    """Raises UsageError where none of these keys has signed the checkpoint that is to be gone on from."""
    keys = {(signature.name, signature.key_id) for signature in earlier.note.signatures}
    known = [verifier for verifier in verifiers if (verifier.name, verifier.key_id) in keys]
    if not known:
        names = ", ".join(sorted(f"{name}+{key_id.hex()}" for name, key_id in keys))
        raise UsageError(
            f"{earlier.folder}: signed by {names}; what goes on from it must be signed by one of these keys"
        )
    verify_note(earlier.note, known, files.join(earlier.folder, CHECKPOINT))


class SealWriter:
    """Writes a seal: documents first, then the release, which closes it."""

    def __init__(self, folder: str, how: Sealing) -> None:
        """Clears the folder, and copies the log of the earlier release into it."""
        self._folder, self._how = folder, how
        files.delete([folder])
        before = how.earlier.tree if how.earlier else EMPTY
        if how.earlier:
            copy_tiles(how.earlier.folder, folder, before.size)
        self._log = TileWriter(folder, before)
        self._before = before
        self._latest: int | None = None

    def add_documents(self, entries: Iterable[Bytes]) -> Tree:
        """Adds document entries (n, 188), in their order; gives the log as it is before the release entry."""
        for chunk in entries:
            self._log.extend(chunk.reshape(-1), np.arange(len(chunk) + 1, dtype=np.int64) * DOCUMENT_BYTES)
            self._see_times(chunk)
        return self._log.tree()

    def close(self, records: Mapping[str, int], manifest: bytes) -> Sealed:
        """Adds the release entry, writes what is left of the seal, and signs.

        Args:
            records: of the release by folder.
            manifest: :func:`pipelines.reserve.manifest.manifest_bytes` of every file outside the seal.
        """
        earlier = self._how.earlier
        release = Release(
            number=chain_of(earlier.reader()).latest.release.number + 1 if earlier else 1,
            documents=self._log.size - self._before.size,
            records=dict(records),
            manifest=hashlib.sha256(manifest).hexdigest(),
            context=dict(self._how.context),
            previous={"size": earlier.checkpoint.size, "root": earlier.checkpoint.root.hex()} if earlier else None,
            captured_before=time_of(self._latest),
        )
        files.write_bytes(files.join(self._folder, MANIFEST), manifest)
        self._log.append([release.encode()])
        tree = self._log.finish()
        # Partial tiles of the log before: whoever reads an earlier size finds those hashes in this log's tiles.
        files.delete(list(strays(self._folder, [tree.size])))
        return sign(self._folder, self._how.origin, tree, self._how.signers)

    def _see_times(self, chunk: Bytes) -> None:
        times = chunk[:, CAPTURED].copy().view(">i8")
        if len(times) and times.max() > np.iinfo(np.int64).min:
            self._latest = max(int(times.max()), self._latest if self._latest is not None else int(times.max()))


def sign(folder: str, origin: str, tree: Tree, signers: Sequence[Signer], kept: Sequence[Signature] = ()) -> Sealed:
    """Writes the checkpoint of a log and the public keys of those who sign it.

    Args:
        folder: of the seal.
        origin: the name of the log.
        tree: its size and root.
        signers: keys; none leaves the checkpoint unsigned.
        kept: signatures of the same checkpoint that stay.
    """
    checkpoint = Checkpoint(origin, tree.size, tree.root)
    note = sign_note(checkpoint.text, signers, kept)
    for signer in signers:
        files.write_bytes(files.join(folder, KEYS, key_file(signer.verifier)), f"{signer.verifier.vkey}\n".encode())
    files.write_bytes(files.join(folder, CHECKPOINT), note.encode())
    return Sealed(folder, note, checkpoint)


def key_file(verifier: Verifier) -> str:
    """What a public key is called in ``seal/keys``."""
    return f"{verifier.key_id.hex()}.vkey"


def copy_tiles(source: str, target: str, size: int) -> None:
    """Copies the files of a log of this size. Raises TileError where one is missing."""
    theirs, ours = TileFolder(source), TileFolder(target)
    for tile in tiles_of(size):
        content, full = theirs.read(tile)
        if full:
            raise TileError(theirs.path(tile), "is missing; put it back from another copy of the archive")
        ours.write(tile, content)


def time_of(microseconds: int | None) -> str | None:
    """RFC 3339 of microseconds since 1970 UTC."""
    if microseconds is None:
        return None
    when = np.datetime64(microseconds, "us").astype(object)
    return str(canonical_time(when.replace(tzinfo=UTC)))

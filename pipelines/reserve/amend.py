"""What withdrawals and audits have in common: some files of a sealed output change, and an entry in the log says so.

    amending = open_sealed(output, signers)
    …  # write files, and take their digests
    content = amending.manifest_with(changed)
    amending.append([Withdrawal(…, manifest_digest(content)).encode()], content, signers)

Whatever is killed on the way is finished by the same command: until the new checkpoint is signed the old manifest
stays, and the new one, once it is signed, is put in its place by whoever opens the output next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from pipelines import files
from pipelines.errors import JobError, UsageError
from pipelines.layout import Layout
from pipelines.reserve.chain import Chain, chain_of
from pipelines.reserve.manifest import FileDigest, manifest_bytes, outside_seal, read_manifest
from pipelines.reserve.note import Signer
from pipelines.reserve.seal import KEYS, MANIFEST, Sealed, check_continued, read_seal, sign
from pipelines.reserve.tile_files import strays
from pipelines.reserve.tiles import TileReader, TileWriter

NEXT: Final = "manifest-next.jsonl"  # the manifest of a checkpoint that is about to be signed


class Amending(NamedTuple):
    """A sealed output whose files may change.

    Attributes:
        layout: of the output.
        sealed: its seal.
        reader: of its log.
        chain: releases, withdrawals and audits.
        manifest: every file as it was sealed, by name.
    """

    layout: Layout
    sealed: Sealed
    reader: TileReader
    chain: Chain
    manifest: Mapping[str, FileDigest]

    def manifest_with(self, changed: Iterable[FileDigest]) -> bytes:
        """The manifest in which these files, new or changed, have their new digests."""
        return manifest_bytes({**self.manifest, **{one.file: one for one in changed}}.values())

    def append(self, entries: Sequence[bytes], manifest: bytes, signers: Sequence[Signer]) -> Sealed:
        """Adds entries to the log, puts the new manifest in place and signs."""
        folder, following = self.sealed.folder, files.join(self.sealed.folder, NEXT)
        log = TileWriter(folder, self.sealed.tree)
        log.append(entries)
        tree = log.finish()
        files.write_bytes(following, manifest)
        done = sign(folder, self.sealed.checkpoint.origin, tree, signers)
        files.replace(following, files.join(folder, MANIFEST))
        files.delete(list(strays(folder, [tree.size])))
        return done


def manifest_digest(content: bytes) -> str:
    """SHA-256, in hex, as entries of the log state it."""
    return hashlib.sha256(content).hexdigest()


def open_sealed(output: str, signers: Sequence[Signer]) -> Amending:
    """Opens an output in order to change it, and clears away what a killed command left half written.

    Args:
        output: its folder.
        signers: keys; one of those that signed the checkpoint must be among them.

    Raises UsageError where the output is not sealed or the keys are others, and JobError where the log or the manifest
    is not as it was sealed.
    """
    layout = Layout(output)
    sealed = read_seal(layout.seal)
    if sealed is None:
        raise UsageError(f"{output}: holds no seal, so there is no log that could say what was changed")
    if sealed.note.signatures:
        check_continued(sealed, [signer.verifier for signer in signers])
    reader = sealed.reader()
    chain = chain_of(reader)
    _put_in_place(sealed, chain)
    content = sealed.manifest()
    if manifest_digest(content) != chain.manifest:
        raise JobError(f"{sealed.folder}/{MANIFEST}: is not the one that was sealed; run 'reserve verify' first")
    _clear(layout, sealed)
    return Amending(layout, sealed, reader, chain, read_manifest(content))


def _put_in_place(sealed: Sealed, chain: Chain) -> None:
    following = files.join(sealed.folder, NEXT)
    if files.exists(following):
        if manifest_digest(files.read_bytes(following)) == chain.manifest:
            files.replace(following, files.join(sealed.folder, MANIFEST))
        else:
            files.delete([following])


def _clear(layout: Layout, sealed: Sealed) -> None:
    inside = [files.join(sealed.folder, "*"), files.join(sealed.folder, KEYS, "*")]
    found = [*outside_seal(layout), *(str(one.path) for pattern in inside for one in files.listing(pattern))]
    files.delete([path for path in found if files.is_temporary(path)])
    files.delete(list(strays(sealed.folder, [sealed.tree.size])))

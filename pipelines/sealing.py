"""The seal of a run: from the job's keys and the release before, to a sealed folder that nothing writes into again."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines import files
from pipelines.errors import UsageError
from pipelines.job import Job
from pipelines.layout import WORK, Layout
from pipelines.reserve.keys import read_passphrase, read_signer
from pipelines.reserve.manifest import FileDigest, digest_file, digest_of, manifest_bytes, outside_seal
from pipelines.reserve.options import Seal
from pipelines.reserve.seal import Sealed, Sealing, SealWriter, read_seal, sealing
from pipelines.reserve.unsealed import PartEntries, merged


def plan_seal(job: Job, context: Mapping[str, str | None]) -> Sealing | None:
    """What the job's output is sealed with; None where it wants no seal.

    Args:
        job: keys, origin and the release before.
        context: digests of what decides, by name.

    Raises UsageError before anything is read, where a key cannot be used or the earlier release is not sealed.
    """
    options = job.seal
    if not options.enabled:
        return None
    earlier = None
    if options.after is not None:
        if _same_folder(options.after, job.output):
            raise UsageError(
                f"seal.after: {options.after} is the output itself; a release goes into a folder of its own"
            )
        earlier = read_seal(Layout(options.after).seal)
        if earlier is None:
            raise UsageError(f"seal.after: {options.after} holds no seal; name the output of an earlier run")
    return sealing(_signers(options), options.origin, context, earlier)


def _same_folder(one: str, other: str) -> bool:
    if files.is_local(one) and files.is_local(other):
        return os.path.realpath(one) == os.path.realpath(other)
    return one.rstrip("/") == other.rstrip("/")


def _signers(options: Seal) -> tuple[Any, ...]:
    file = Path(options.passphrase_file) if options.passphrase_file else None
    phrase = read_passphrase(file, options.passphrase_env)
    return tuple(read_signer(Path(key), phrase) for key in options.key)


def refuse_signed(output: str) -> None:
    """Raises UsageError where the output is sealed by a signature."""
    sealed = read_seal(Layout(output).seal)
    if sealed is not None and sealed.note.signatures:
        raise UsageError(
            f"output: {output} is sealed and signed by {sealed.note.signatures[0].name}, and nothing sealed is ever "
            "rewritten; name another --output (seal.after goes on from a release)"
        )


class Sealer:
    """Seals an output: the documents first, since `summary.json` states their root, and at the end all files."""

    def __init__(self, layout: Layout, how: Sealing, markers: Sequence[Mapping[str, Any]]) -> None:
        """Begins the seal anew.

        Args:
            layout: of the output.
            how: what to seal with.
            markers: of all parts, as settle wrote them, in the order of their numbers.
        """
        self._layout, self._markers = layout, markers
        self._writer = SealWriter(layout.seal, how)
        self.how = how

    def documents(self) -> dict[str, Any]:
        """Adds all documents; gives what `summary.json` says under `seal`."""
        numbered = enumerate(self._markers)
        parts = [PartEntries(self._layout.entries(number), marker["entries"]) for number, marker in numbered]
        tree = self._writer.add_documents(merged(parts))
        return {
            "root": tree.root.hex(),
            "size": tree.size,
            "origin": self.how.origin,
        }

    def close(self, summary: bytes, records: Mapping[str, int]) -> Sealed:
        """Seals all files of the output, `summary.json` as it is about to be written among them."""
        layout = self._layout
        known = {one["file"]: FileDigest.of(one) for marker in self._markers for one in marker["files"]}
        known[layout.name(layout.summary)] = digest_of(summary, layout.name(layout.summary))
        for path in outside_seal(layout):
            if (name := layout.name(path)) not in known:
                known[name] = digest_file(path, name)
        return self._writer.close(records, manifest_bytes(known.values()))


def make_read_only(layout: Layout) -> None:
    """Takes the right to write from every file of a local output, so that no program changes one unawares."""
    if not files.is_local(layout.output):
        return
    for folder, names, found in os.walk(layout.output):
        names[:] = [name for name in names if name != WORK]
        for name in found:
            path = os.path.join(folder, name)
            os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) & 0o555)

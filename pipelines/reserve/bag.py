"""A bag (BagIt 1.0) of a sealed output, for archives that take in bags::

    make_bag("out", "bag")     # bag/data/ is the output; bag/manifest-sha256.txt is made of its seal's manifest

The payload is the output without its work folder: hard links where the filesystem has them, and copies elsewhere. No
file that the seal's manifest names is read for its digest; whoever receives the bag does that. A hard link is the same
file under a second name, which the seal has made read-only.

There is no `Bagging-Date`: the same output gives the same bag.

Source: RFC 8493.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

from pipelines import files
from pipelines.errors import JobError, UsageError
from pipelines.layout import WORK, Layout
from pipelines.reserve.chain import chain_of
from pipelines.reserve.manifest import FileDigest, digest_file, read_manifest
from pipelines.reserve.seal import MANIFEST, Sealed, read_seal

PAYLOAD: Final = "data"
_DECLARATION: Final = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"


class Bag(NamedTuple):
    """What was made: the folder; the files and bytes of its payload; how many of them are hard links."""

    folder: str
    files: int
    size: int
    linked: int


def make_bag(output: str, target: str) -> Bag:
    """Makes a bag of a sealed output.

    Args:
        output: the folder; on this machine's own filesystem.
        target: the bag's folder, which must not be there yet; it appears whole.

    Raises UsageError where the output is not sealed or the target cannot be used, and JobError where the output is not
    what its manifest says by names and sizes (`reserve verify` tells more).
    """
    source, bag = Path(output), Path(target)
    sealed = _sealed(output)
    if os.path.lexists(bag):
        raise UsageError(f"{target}: is there already; name a folder that is not")
    if source.resolve() in bag.resolve().parents:
        raise UsageError(f"{target}: lies in the output, to which nothing may be added; name a folder beside it")
    payload = _payload(source, sealed)
    temporary = bag.with_name(f"{bag.name}.tmp-{uuid.uuid4().hex[:8]}")
    try:
        linked = sum(_place(source / one.file, temporary / PAYLOAD / one.file) for one in payload)
        _write_tags(temporary, sealed, payload)
        os.rename(temporary, bag)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Bag(target, len(payload), sum(one.size for one in payload), linked)


def _sealed(output: str) -> Sealed:
    if not files.is_local(output):
        raise UsageError(f"{output}: a bag is made of a local output; copy it here first")
    sealed = read_seal(Layout(output).seal)
    if sealed is None:
        raise UsageError(f"{output}: holds no seal, of whose manifest a bag is made")
    return sealed


def _payload(source: Path, sealed: Sealed) -> list[FileDigest]:
    """Every file of the output, sorted by name; those of the seal are read."""
    content = sealed.manifest()
    if hashlib.sha256(content).hexdigest() != chain_of(sealed.reader()).manifest:
        raise JobError(f"{sealed.folder}/{MANIFEST}: is not the one that was sealed; reserve verify {source}")
    known = read_manifest(content)
    found = []
    for path in _walk(source):
        name = path.relative_to(source).as_posix()
        if not path.is_relative_to(sealed.folder):
            if name not in known:
                raise JobError(f"{path}: was not sealed; take it out of the output, or see reserve verify {source}")
            if path.stat().st_size != known[name].size:
                raise JobError(f"{path}: has not the size that was sealed; see reserve verify {source}")
        found.append(known.pop(name) if name in known else digest_file(str(path), name))
    if known:
        raise JobError(f"{source / min(known)}: was sealed, and is not there; see reserve verify {source}")
    return sorted(found, key=lambda one: one.file)


def _walk(source: Path) -> list[Path]:
    found = []
    for folder, folders, names in os.walk(source):
        if Path(folder) == source:
            folders[:] = [name for name in folders if name != WORK]
        found += [Path(folder) / name for name in names]
    return found


def _place(path: Path, target: Path) -> bool:
    """Puts a file where it belongs; says whether by a hard link."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
        return True
    except OSError:  # another filesystem, one without links, or somebody else's file
        shutil.copy2(path, target)
        return False


def _write_tags(bag: Path, sealed: Sealed, payload: list[FileDigest]) -> None:
    checkpoint = sealed.checkpoint
    size = sum(one.size for one in payload)
    info = {
        "Bag-Software-Agent": f"human-reserve {version('human-reserve')}",
        "External-Description": "an output of reserve run with its seal; data/README.md says what it is",
        "External-Identifier": f"{checkpoint.origin} {checkpoint.size} {checkpoint.root.hex()}",
        "Payload-Oxum": f"{size}.{len(payload)}",
    }
    tags = {
        "bag-info.txt": "".join(f"{label}: {value}\n" for label, value in info.items()).encode(),
        "bagit.txt": _DECLARATION,
        "manifest-sha256.txt": "".join(f"{one.sha256}  {PAYLOAD}/{encoded(one.file)}\n" for one in payload).encode(),
    }
    for name, content in tags.items():
        (bag / name).write_bytes(content)
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in tags.items()]
    (bag / "tagmanifest-sha256.txt").write_bytes("".join(lines).encode())


def encoded(name: str) -> str:
    """A file's name as a manifest writes it (section 2.1.3): CR, LF and ``%`` percent-encoded, and nothing else.

    >>> encoded("50% of it")
    '50%25 of it'
    """
    return re.sub(r"[%\r\n]", lambda found: f"%{ord(found[0]):02X}", name)

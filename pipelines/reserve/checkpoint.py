"""C2SP tlog-checkpoint: what a log says of itself in three lines: its name, how many leaves, and their root::

    checkpoint = Checkpoint("example.com/reserve", 20852163, root)
    checkpoint.text                       # what a signed note signs (:mod:`pipelines.reserve.note`)
    parse_checkpoint(checkpoint.text) == checkpoint

Source: https://c2sp.org/tlog-checkpoint ("Note text"); what ML-DSA-44 signs instead of the text:
https://c2sp.org/tlog-cosignature ("ML-DSA-44 signed message").
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from dataclasses import dataclass

from pipelines.errors import JobError

EMPTY_ROOT = hashlib.sha256(b"").digest()  # RFC 6962, section 2.1
MAX_SIZE = 2**63 - 1  # leaves; what every implementation can count

_DECIMAL = re.compile("0|[1-9][0-9]{0,18}")  # ASCII digits alone
_LABEL = b"subtree/v1\n\0"


class CheckpointError(JobError):
    """A text is no checkpoint: names the line and what is wrong with it."""


@dataclass(frozen=True)
class Checkpoint:
    """The head of a log.

    Raises CheckpointError where the fields cannot be written as a checkpoint.

    >>> print(Checkpoint("example.com/reserve", 0, EMPTY_ROOT).text, end="")
    example.com/reserve
    0
    47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=
    """

    origin: str  # which log; a URL without a scheme, by custom
    size: int  # leaves
    root: bytes  # 32 bytes, RFC 6962
    extensions: tuple[str, ...] = ()  # lines that only the log itself understands; ML-DSA-44 cannot sign them

    def __post_init__(self) -> None:
        for number, line in ((1, self.origin), *enumerate(self.extensions, 4)):
            _check_line(line, number, "checkpoint")
        if not 0 <= self.size <= MAX_SIZE:
            raise CheckpointError(f"checkpoint, line 2: size {self.size} is not between 0 and {MAX_SIZE}")
        _check_root(self.root, self.size, "checkpoint")

    @property
    def text(self) -> str:
        """The checkpoint as the text of a note, its final line break included."""
        root = base64.b64encode(self.root).decode()
        return "".join(f"{line}\n" for line in (self.origin, str(self.size), root, *self.extensions))


def parse_checkpoint(text: str, source: str = "checkpoint") -> Checkpoint:
    """Reads a checkpoint as strictly as it is written: what is accepted has one spelling only.

    Args:
        text: the text of the note, without the blank line and the signatures.
        source: what errors call it; a path, say.

    Raises CheckpointError, which names the line.

    >>> parse_checkpoint("example.com/reserve\\n007\\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\\n")
    Traceback (most recent call last):
    pipelines.reserve.checkpoint.CheckpointError: checkpoint, line 2: '007' is no decimal number without leading zeros
    """
    if not text.endswith("\n"):
        raise CheckpointError(f"{source}: its last line does not end with a line break")
    lines = text.split("\n")[:-1]  # splitlines would also split at U+2028 and the like
    if len(lines) < 3:
        raise CheckpointError(f"{source}: {len(lines)} lines; a checkpoint has at least 3: origin, size and root")
    for number, line in enumerate(lines, 1):
        _check_line(line, number, source)
    origin, size, root64, *extensions = lines
    if not _DECIMAL.fullmatch(size):
        raise CheckpointError(f"{source}, line 2: {size!r} is no decimal number without leading zeros")
    if int(size) > MAX_SIZE:
        raise CheckpointError(f"{source}, line 2: size {size} is not between 0 and {MAX_SIZE}")
    try:
        root = decode_base64(root64)
    except ValueError as error:
        raise CheckpointError(f"{source}, line 3: the root is not base64: {error}") from None
    _check_root(root, int(size), source)
    return Checkpoint(origin, int(size), root, tuple(extensions))


def cosigned_message(checkpoint: Checkpoint, name: str, timestamp: int) -> bytes:
    """What a key of type ML-DSA-44 signs of a checkpoint, which is not its text.

    The format has no place for extension lines. A checkpoint with such lines is refused, rather than half signed.

    Args:
        checkpoint: of the log.
        name: the key's.
        timestamp: seconds since 1970, or 0: no statement that this is the newest checkpoint.

    Raises CheckpointError for extension lines, and where the origin or the name is longer than 255 bytes.
    """
    if checkpoint.extensions:
        raise CheckpointError("checkpoint, line 4: an ML-DSA-44 signature does not cover extension lines; remove them")
    named, origin = _opaque(name, "key name"), _opaque(checkpoint.origin, "origin")
    whole = struct.pack(">QQ", 0, checkpoint.size)  # the subtree from leaf 0 on
    return b"".join((_LABEL, named, struct.pack(">Q", timestamp), origin, whole, checkpoint.root))


def decode_base64(text: str) -> bytes:
    """Bytes from standard base64 (RFC 4648, section 4) in its one canonical spelling.

    Raises ValueError for anything else, unused bits that are not zero included: they would let a signed file change
    without notice.
    """
    try:
        value = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if base64.b64encode(value).decode() != text:
        raise ValueError("the unused bits of its last character are not zero")
    return value


def _opaque(value: str, what: str) -> bytes:
    encoded = value.encode()
    if not 1 <= len(encoded) <= 255:
        raise CheckpointError(f"the {what} has {len(encoded)} bytes; an ML-DSA-44 signature takes 1 to 255")
    return bytes([len(encoded)]) + encoded


def _check_line(line: str, number: int, source: str) -> None:
    if not line:
        raise CheckpointError(f"{source}, line {number}: is empty")
    for character in line:
        if character < " ":
            raise CheckpointError(f"{source}, line {number}: holds the control character U+{ord(character):04X}")
    try:
        line.encode()
    except UnicodeEncodeError:
        raise CheckpointError(f"{source}, line {number}: cannot be written in UTF-8") from None


def _check_root(root: bytes, size: int, source: str) -> None:
    if len(root) != 32:
        raise CheckpointError(f"{source}, line 3: the root has {len(root)} bytes; SHA-256 has 32")
    if size == 0 and root != EMPTY_ROOT:
        raise CheckpointError(f"{source}, line 3: the root is not that of the empty tree, but the size is 0")

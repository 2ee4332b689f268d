"""Document entries made again from the rows of an archive, a row group at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import files
from pipelines.records import Place
from pipelines.reserve.encoding import Bytes, fixed_bytes
from pipelines.reserve.entries import columns_of, document_entries


class Group(NamedTuple):
    """One row group: its number, its entries (n, 188), and the rows whose text is not what its digest says."""

    number: int
    entries: Bytes
    wrong_texts: tuple[int, ...]


class GroupError(ValueError):
    """A row group (None: the file's footer) cannot be read."""

    def __init__(self, number: int | None, reason: str) -> None:
        super().__init__(reason)
        self.number = number


def part_groups(path: str, place: Place, context: bytes, texts: bool) -> Iterator[Group | GroupError]:
    """The row groups of a part, one at a time; those that cannot be read as errors, after which others follow.

    Args:
        path: of a Parquet file with documents.
        place: the folder that it lies in.
        context: of the release.
        texts: hash the texts too.
    """
    columns = columns_of(place)
    with files.open_read(path) as stream:
        try:
            file = pq.ParquetFile(stream)
            groups = file.num_row_groups
        except (pa.ArrowException, OSError, ValueError) as error:
            yield GroupError(None, _first_line(error))
            return
        for number in range(groups):
            try:
                rows = file.read_row_group(number, columns=[*columns, *(["text"] if texts else [])], use_threads=False)
                wrong = _wrong_texts(rows) if texts else ()
                yield Group(number, document_entries(rows, place, context), wrong)
            except (pa.ArrowException, OSError, ValueError, KeyError) as error:
                yield GroupError(number, _first_line(error))


def text_digest(text: str) -> str:
    """`text_sha256` of a text, in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _wrong_texts(rows: pa.Table) -> tuple[int, ...]:
    """The rows whose text has another SHA-256. Of some duplicates the text stands elsewhere, and not here."""
    texts = pc.cast(rows["text"], pa.large_binary()).to_pylist()
    digests = fixed_bytes(rows["text_sha256"], 32)
    return tuple(
        row
        for row, (text, digest) in enumerate(zip(texts, digests, strict=True))
        if text is not None and hashlib.sha256(text).digest() != digest.tobytes()
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

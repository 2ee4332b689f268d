"""Writes the broken shards under tests/assets/corrupt/, out of generated text only.

    python tests/assets/make_corrupt.py

Each file is small and broken in one way; its name says how. ``EXPECTED`` says what a reader should make of it: the
number of documents, and for each reject its reason.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

FOLDER = Path(__file__).parent / "corrupt"
WORDS = ["river", "stone", "quiet", "letter", "morning", "harbour", "window", "garden", "winter", "paper", "bridge"]

EXPECTED: dict[str, tuple[int, list[str]]] = {
    "empty.warc.gz": (0, ["empty_shard"]),
    "no-record.warc.gz": (0, ["empty_shard"]),
    "text-instead.warc.gz": (0, ["unsupported"]),
    "zeroed-member.warc.gz": (4, ["damaged"]),
    "flipped-byte.warc.gz": (4, ["damaged"]),
    "flipped-byte.warc.zst": (4, ["damaged"]),
    "garbage-between.warc.gz": (5, ["damaged"]),
    "garbage-between.warc": (5, ["damaged"]),
    "garbage-first.warc.gz": (5, ["damaged"]),
    "truncated.warc.gz": (4, ["truncated"]),
    "truncated.warc": (4, ["truncated"]),
    "truncated-one-member.warc.gz": (4, ["truncated"]),
    "length-too-large.warc": (4, ["damaged"]),
    "length-too-large.warc.gz": (4, ["damaged"]),
    "length-too-small.warc": (4, ["damaged"]),
    "length-huge.warc": (4, ["too_large"]),
    "header-cut.warc": (4, ["damaged"]),
    "crossing-members.warc.gz": (5, []),
    "bad-status.warc": (4, ["bad_record"]),
    "bad-gzip-body.warc": (4, ["encoding"]),
    "bomb.warc.gz": (4, ["too_large"]),
    "deep-nesting.warc.gz": (4, ["too_large"]),
    "bad-lines.jsonl": (4, ["bad_record", "bad_record", "no_text"]),
    "truncated.jsonl.gz": (4, ["truncated"]),
    "no-text-column.parquet": (0, ["missing_column"] * 5),
    "truncated.parquet": (0, ["truncated"]),
    "zeroed-row-group.parquet": (4, ["damaged"]),
    "bad-dictionary.warc.zst": (5, []),
    "magic-noise.warc.gz": (5, ["damaged"]),
    "length-into-a-header.warc": (4, ["damaged"]),
    "endless-headers.warc": (1, ["damaged"] * 41),  # the first byte is a stretch of its own
    "overlapping-members.warc.gz": (5, ["damaged"] * 15),
}


# A gzip member that begins with a record, and stores the bytes that follow it.
STORING = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x01\xff\xff\0\0WARC/1.0\r\nA: b"


def prose(number: int) -> str:
    draw = random.Random(number)
    return f"Text {number}. " + " ".join(draw.choice(WORDS) for _ in range(80)) + "."


def page(number: int) -> bytes:
    return f"<!doctype html><html><body><main><p>{prose(number)}</p></main></body></html>".encode()


def record(
    number: int, body: bytes | None = None, *headers: str, status: str = "HTTP/1.1 200 OK", wrong: int = 0
) -> bytes:
    head = "\r\n".join([status, "Content-Type: text/html", *headers, "", ""]).encode()
    block = head + (page(number) if body is None else body)
    lines = (
        "WARC/1.0",
        "WARC-Type: response",
        f"WARC-Target-URI: https://site{number}.example/",
        f"WARC-Date: 2021-05-0{number + 1}T00:00:00Z",
        "Content-Type: application/http; msgtype=response",
        f"Content-Length: {len(block) + wrong}",
    )
    return "\r\n".join([*lines, "", ""]).encode() + block + b"\r\n\r\n"


def gz(data: bytes) -> bytes:
    return gzip.compress(data, 6, mtime=0)


def zst(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def shard(pack: Callable[[bytes], bytes], second: bytes | None = None) -> list[bytes]:
    """Five packed records; ``second`` stands for number 1."""
    return [pack(second if second is not None and n == 1 else record(n)) for n in range(5)]


def damaged(parts: list[bytes], number: int, change: Callable[[bytes], bytes]) -> bytes:
    return b"".join(change(part) if n == number else part for n, part in enumerate(parts))


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x20]) + data[middle + 1 :]


def plain(data: bytes) -> bytes:
    return data


def parquet(column: str) -> bytes:
    sink = BytesIO()
    rows = {column: [prose(n) for n in range(5)]}
    pq.write_table(pa.table(rows), sink, row_group_size=1, use_dictionary=False, compression="zstd")
    return sink.getvalue()


def zeroed_row_group() -> bytes:
    data = parquet("text")
    start = pq.ParquetFile(BytesIO(data)).metadata.row_group(2).column(0).data_page_offset
    return data[:start] + bytes(60) + data[start + 60 :]


def lines() -> bytes:
    good = [json.dumps({"url": f"https://site{n}.example/", "text": prose(n)}) for n in range(4)]
    return "\n".join([good[0], good[1][:50], good[1], '["a list"]', good[2], '{"text": "  "}', good[3], ""]).encode()


def files() -> dict[str, bytes]:
    garbage = random.Random(9).randbytes(200).replace(b"\x1f\x8b", b"\0\0")
    whole = b"".join(shard(plain))
    texts = b"".join(json.dumps({"text": prose(n)}).encode() + b"\n" for n in range(5))
    broken_body = record(1, gz(page(1))[:-40] + bytes(40), "Content-Encoding: gzip")
    return {
        "empty.warc.gz": b"",
        "no-record.warc.gz": gz(b""),
        "text-instead.warc.gz": gz(prose(0).encode()),
        "zeroed-member.warc.gz": damaged(shard(gz), 2, lambda part: bytes(len(part))),
        "flipped-byte.warc.gz": damaged(shard(gz), 2, flipped),
        "flipped-byte.warc.zst": damaged(shard(zst), 2, flipped),
        "garbage-between.warc.gz": damaged(shard(gz), 2, lambda part: garbage + part),
        "garbage-between.warc": damaged(shard(plain), 2, lambda part: garbage + part),
        "garbage-first.warc.gz": garbage + b"".join(shard(gz)),
        "truncated.warc.gz": b"".join(shard(gz))[:-150],
        "truncated.warc": whole[:-150],
        "truncated-one-member.warc.gz": gz(whole)[:-20],
        "length-too-large.warc": b"".join(shard(plain, record(1, wrong=200))),
        "length-too-large.warc.gz": b"".join(shard(gz, record(1, wrong=200))),
        "length-too-small.warc": b"".join(shard(plain, record(1, wrong=-50))),
        "length-huge.warc": b"".join(shard(plain, record(1, wrong=10**12))),
        "header-cut.warc": b"".join(shard(plain, record(1)[:70] + b"\r\n")),
        "crossing-members.warc.gz": b"".join(gz(whole[at : at + 500]) for at in range(0, len(whole), 500)),
        "bad-status.warc": b"".join(shard(plain, record(1, status="HELLO"))),
        "bad-gzip-body.warc": b"".join(shard(plain, broken_body)),
        "bomb.warc.gz": b"".join(shard(gz, record(1, gz(bytes(70 << 20)), "Content-Encoding: gzip"))),
        "deep-nesting.warc.gz": b"".join(shard(gz, record(1, b"<div>" * 100_000 + prose(1).encode()))),
        "bad-lines.jsonl": lines(),
        "truncated.jsonl.gz": gz(texts)[:-60],
        "no-text-column.parquet": parquet("title"),
        "truncated.parquet": parquet("text")[:-100],
        "zeroed-row-group.parquet": zeroed_row_group(),
        "bad-dictionary.warc.zst": b"\x5d\x2a\x4d\x18\x36\0\0\0\x37\xa4\x30\xec" + bytes(50) + b"".join(shard(zst)),
        "magic-noise.warc.gz": b"\x1f\x8b\x08" * 2000 + b"".join(shard(gz)),
        "length-into-a-header.warc": b"".join(shard(plain, record(1, wrong=4 + record(2).index(b"\r\n\r\n")))),
        "endless-headers.warc": b"xWARC/1.0\r\nWARC-Type: response\r\nX: " * 40 + b"\n" + record(0),
        "overlapping-members.warc.gz": STORING * 5 + b"".join(shard(gz)),
    }


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, data in files().items():
        (FOLDER / name).write_bytes(data)


if __name__ == "__main__":
    main()

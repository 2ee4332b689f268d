"""Memory stays bounded while large records and bombs are read: each shard in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import gzip, io, resource, sys, zlib
from pipelines.ingest.options import Ingest
from pipelines.ingest.reader import read_shard
from tests.ingest.building import gz, html, http, page_record, prose, record

kind, size = sys.argv[1], int(sys.argv[2])

class Generated(io.RawIOBase):
    '''A shard of which only the ends are held: a head, zeros, a tail.'''

    def __init__(self, head, zeros, tail):
        self.parts, self.size, self.at = (head, zeros, tail), len(head) + zeros + len(tail), 0

    def seekable(self):
        return kind != "pipe"

    def seek(self, offset, whence=0):
        self.at = offset + (0, self.at, self.size)[whence]
        return self.at

    def read(self, size=-1):
        head, zeros, tail = self.parts
        whole = b""
        end = min(self.at + size, self.size)
        if self.at < len(head):
            whole += head[self.at : end]
        if self.at < len(head) + zeros and end > len(head):
            whole += bytes(min(end, len(head) + zeros) - max(self.at, len(head)))
        if end > len(head) + zeros:
            whole += tail[max(self.at - len(head) - zeros, 0) : end - len(head) - zeros]
        self.at = end
        return whole

first, last = page_record(0), page_record(2)
head, _, _ = record(http(b""), 1, length=size + len(http(b""))).rpartition(b"\\r\\n\\r\\n")
if kind in ("plain", "pipe"):
    stream = Generated(first + head, size, b"\\r\\n\\r\\n" + last)
elif kind == "lie":
    stream = Generated(first + head.replace(b"Content-Length: ", b"Content-Length: 9"), size, b"\\r\\n\\r\\n" + last)
else:
    packer = zlib.compressobj(9, wbits=31)
    parts = [packer.compress(head)]
    parts += [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    bomb = b"".join([*parts, packer.compress(b"\\r\\n\\r\\n"), packer.flush()])
    stream = io.BytesIO(gz(first) + bomb + gz(last))
for _ in read_shard(io.BytesIO(first + last), "x", Ingest()):
    pass
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
hosts, reasons = [], []
for documents, rejects in read_shard(stream, "x.warc", Ingest()):
    hosts += documents.column("host").to_pylist()
    reasons += rejects.column("reason").to_pylist()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10, *hosts, *reasons)
"""


@pytest.mark.parametrize("kind", ["plain", "pipe", "lie", "bomb"])
def test_a_record_of_many_megabytes(kind: str) -> None:
    command = [sys.executable, "-c", PROGRAM, kind, str(300 << 20)]
    grown, *found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert found == ["site0.example", "site2.example", "too_large"]
    # A window of the raw shard and some pieces of 1 MiB; a whole record would be 300 MiB.
    assert int(grown) < 150, f"{grown} MiB"

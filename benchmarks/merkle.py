"""The log's tiles: how fast they are written, read, checked and proved from, and in how much memory.

    python -m benchmarks.merkle --folder SCRATCH --leaves 100000 1000000 4000000      # needs 1.1 GB for 4 M leaves

Entries are random bytes, of 200 bytes on average, and come in buffers as Arrow keeps them. Each size runs in a process
of its own, so that its peak memory is its own.

- *write*: entries to tiles and bundles on disk, the tree's root included; *hash*: SHA-256 alone of as many leaves and
  nodes, in the same process: what no writer in this language can go below.
- *read*: all entries in their order; *check*: all tiles and entries against the root.
- *append*: another release of a thousand entries on top of it, with its partial tiles.
- *proof*: an inclusion proof from disk with nothing cached in the process, its tiles checked up to the root, and
  verified; median and worst of 200 leaves. *entry*: one entry, checked likewise. *consistency*: of the two releases.
- *peak MB*: the most memory that the process held, and how much of that it held before the first entry.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.reserve.merkle import leaf_hash
from pipelines.reserve.proofs import verify_consistency, verify_inclusion
from pipelines.reserve.tiles import TileReader, TileWriter, Tree

_CHUNK = 20_000
_PROOFS = 200
_SAMPLE = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the tiles are written, and deleted again")
    parser.add_argument("--leaves", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, str(options.folder))))
        return
    print(
        f"{'leaves':>10}{'write s':>9}{'MB/s':>7}{'hash s':>8}{'read MB/s':>11}{'check s':>9}{'append ms':>11}", end=""
    )
    print(f"{'proof ms':>16}{'bytes':>7}{'entry ms':>10}{'consistency ms':>16}{'peak MB':>15}{'files':>8}")
    for leaves in options.leaves:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            show(leaves, in_a_process(leaves, folder))


def in_a_process(leaves: int, folder: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.merkle", "--one", str(leaves), "--folder", folder]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def show(leaves: int, found: dict[str, Any]) -> None:
    megabytes = found["bytes"] / 1e6
    print(f"{leaves:>10,}{found['write']:>9.1f}{megabytes / found['write']:>7.0f}{found['hash']:>8.1f}", end="")
    print(f"{megabytes / found['read']:>11.0f}{found['check']:>9.1f}{1e3 * found['append']:>11.0f}", end="")
    print(f"{1e3 * found['proof']:>9.2f}{1e3 * found['worst']:>7.2f}{found['proof_bytes']:>7}", end="")
    print(f"{1e3 * found['entry']:>10.2f}{1e3 * found['consistency']:>16.2f}", end="")
    print(f"{found['peak']:>9.0f}{found['before']:>6.0f}{found['files']:>8,}", flush=True)


def chunks(leaves: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Entries of 150 to 250 random bytes: a buffer and its offsets."""
    rng = np.random.default_rng(1)
    for begin in range(0, leaves, _CHUNK):
        lengths = rng.integers(150, 251, min(_CHUNK, leaves - begin))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        yield np.frombuffer(rng.bytes(int(offsets[-1])), np.uint8), offsets


def measure(leaves: int, folder: str) -> dict[str, Any]:
    """All figures of one size."""
    held = peak()
    spent, size = 0.0, 0
    writer = TileWriter(folder)
    for data, offsets in chunks(leaves):
        began = time.perf_counter()
        writer.extend(data, offsets)
        spent += time.perf_counter() - began
        size += len(data)
    last, tree = timed(writer.finish)
    highest = peak()
    count, read = 0, time.perf_counter()
    for _ in TileReader(folder, tree).entries():
        count += 1
    read = time.perf_counter() - read
    assert count == leaves
    check, problems = timed(lambda: list(TileReader(folder, tree).problems()))
    assert not problems
    picked = np.random.default_rng(2).integers(0, leaves, _PROOFS).tolist()
    proofs = [timed(lambda index=index: prove(folder, tree, index)) for index in picked]
    entries = [timed(lambda index=index: TileReader(folder, tree).entry(index))[0] for index in picked]
    append, later = timed(lambda: release(folder, tree))
    consistency, _ = timed(lambda: prove_consistency(folder, tree, later))
    return {
        "bytes": size,
        "write": spent + last,
        "hash": hashing(leaves),
        "read": read,
        "check": check,
        "append": append,
        "proof": float(np.median([seconds for seconds, _ in proofs])),
        "worst": max(seconds for seconds, _ in proofs),
        "proof_bytes": max(length for _, length in proofs),
        "entry": float(np.median(entries)),
        "consistency": consistency,
        "peak": max(highest, peak()),
        "before": held,
        "files": sum(path.is_file() for path in Path(folder).rglob("*")),
    }


def prove(folder: str, tree: Tree, index: int) -> int:
    """Makes and verifies a proof; its bytes."""
    reader = TileReader(folder, tree)
    proof = reader.inclusion_proof(index)
    verify_inclusion(leaf_hash(reader.entry(index)), index, tree.size, proof, tree.root)
    return sum(map(len, proof))


def prove_consistency(folder: str, older: Tree, newer: Tree) -> None:
    proof = TileReader(folder, newer).consistency_proof(older.size)
    verify_consistency(older.size, newer.size, older.root, newer.root, proof)


def release(folder: str, tree: Tree) -> Tree:
    writer = TileWriter(folder, tree)
    writer.append(b"%0200d" % number for number in range(1000))
    return writer.finish()


def hashing(leaves: int) -> float:
    """Seconds that the SHA-256 of the leaves and nodes takes by itself, from the fastest of several samples."""
    leaf, node = bytes(201), bytes(65)

    def sample() -> None:
        for _ in range(_SAMPLE):
            sha256(leaf).digest()
            sha256(node).digest()

    return min(timed(sample)[0] for _ in range(9)) * leaves / _SAMPLE


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def peak() -> float:
    """The most megabytes that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()

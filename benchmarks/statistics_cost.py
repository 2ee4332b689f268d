"""What the statistics cost a run: the whole command with and without the collapse panel, and the panel's state.

    python -m benchmarks.statistics_cost --docs 30000 --repeats 3    # needs text sets: --text ../shared/text
    python -m benchmarks.statistics_cost --growth 1 2 4              # memory of the kernel over 1, 2, 4 times the crawl

Both commands run in turn over the same WET shards, on all cores, or with --one-core on one. The ratio is of the
medians; that of the least of each side stands beside it. The kernel alone is timed on what the run kept: MB (10^6
bytes) a second, one core.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.end_to_end import _ONE_THREAD, build
from pipelines.neardup.minhash import sign
from pipelines.neardup.options import NearDup
from pipelines.statistics.panel.tally import PanelRules, merge_panel, tally_panel

CUTOFF = datetime(2022, 11, 30, tzinfo=UTC)
_PACK = 4000  # documents: some 10 to 30 MB of text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", default="../shared/text", help="labelled text sets to build shards from")
    parser.add_argument("--docs", type=int, default=30000, help="of the crawl, as far as the texts go")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side")
    parser.add_argument("--one-core", action="store_true", help="one worker, pinned to one core (default: as it comes)")
    parser.add_argument("--growth", type=int, nargs="*", help="instead: memory over so many times the documents")
    parser.add_argument("--grow", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.grow:
        grow(options.text, options.docs, options.grow)
        return
    if options.growth:
        command = [
            sys.executable,
            "-m",
            "benchmarks.statistics_cost",
            "--text",
            options.text,
            "--docs",
            str(options.docs),
        ]
        for times in options.growth:
            subprocess.run([*command, "--grow", str(times)], check=True)
        return
    with tempfile.TemporaryDirectory() as scratch:
        pattern = build(options.text, options.docs, 1, scratch)
        compare(pattern, scratch, options.repeats, options.one_core)


def compare(pattern: str, scratch: str, repeats: int, one_core: bool) -> None:
    took: dict[bool, list[float]] = {True: [], False: []}
    stages: dict[bool, list[float]] = {True: [], False: []}
    for number in range(repeats):
        for panel in (True, False) if number % 2 else (False, True):
            seconds, settle = timed_run(pattern, os.path.join(scratch, f"out-{panel}-{number}"), panel, one_core)
            took[panel].append(seconds)
            stages[panel].append(settle)
    print(f"{'':<24}{'with panel':>12}{'without':>12}{'ratio':>8}{'of the least':>14}")
    for name, both in (("reserve run, s", took), ("of this settle, s", stages)):
        a, b = statistics.median(both[True]), statistics.median(both[False])
        print(f"{name:<24}{a:>12.1f}{b:>12.1f}{a / b:>8.2f}{min(both[True]) / min(both[False]):>14.2f}")
    output = os.path.join(scratch, "out-True-0")
    kernel(output)
    sketches = pq.ParquetFile(os.path.join(output, "statistics", "sketches.parquet"))
    size = os.path.getsize(os.path.join(output, "statistics", "sketches.parquet"))
    print(f"slices {sketches.metadata.num_rows}, sketches.parquet {size / 1e6:.1f} MB")


def timed_run(pattern: str, output: str, panel: bool, one_core: bool) -> tuple[float, float]:
    """Seconds of the whole command and of its last stage."""
    command = [sys.executable, "-m", "pipelines.cli", "run", "--input", pattern, "--output", output]
    command += ["--workers", "1"] if one_core else []
    command += ["--set", f"statistics.panel={json.dumps(panel)}"]
    core = min(os.sched_getaffinity(0))
    began = time.perf_counter()
    done = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | (_ONE_THREAD if one_core else {}),
        preexec_fn=(lambda: os.sched_setaffinity(0, {core})) if one_core else None,
    )
    seconds = time.perf_counter() - began
    (settle,) = re.findall(r"^settle\s.*, ([\d.]+) s$", done.stderr, re.MULTILINE)
    return seconds, float(settle)


def kernel(output: str) -> None:
    """The counting kernel alone, on what the run kept."""
    table = documents(output)
    megabytes = pc.sum(pc.binary_length(table["text"])).as_py() / 1e6
    rules = PanelRules(CUTOFF)
    tally_panel(table.slice(0, 10), rules)  # compiles
    began = time.perf_counter()
    packs = [tally_panel(table.slice(at, _PACK), rules) for at in range(0, table.num_rows, _PACK)]
    counted = time.perf_counter()
    merged = merge_panel(packs)
    ended = time.perf_counter()
    largest = max(merged.slice(at, 1).combine_chunks().nbytes for at in range(merged.num_rows))
    print(f"kernel {megabytes / (counted - began):.1f} MB/s, merging {ended - counted:.2f} s for {len(packs)} packs")
    print(f"largest state of a slice {largest / 1e3:.0f} kB")


def grow(text: str, docs: int, times: int) -> None:
    """Peak memory of counting and merging so many copies of the texts, each with keys of its own, and the state."""
    names = ["text", "language"]
    table = pa.concat_tables([pq.read_table(path, columns=names) for path in sorted(Path(text).glob("*.parquet"))])
    table = table.slice(0, docs).combine_chunks()
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    packs = (pack for copy in range(times) for pack in packs_of(table, copy))
    merged = merge_panel(tally_panel(pack, PanelRules(CUTOFF)) for pack in packs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{times * table.num_rows:>10,} documents: {merged.num_rows} slices, state {merged.nbytes / 1e6:.1f} MB, "
        f"peak memory {peak / 1024:.0f} MB, of which the texts {base / 1024:.0f} MB"
    )


def packs_of(table: pa.Table, copy: int) -> Iterator[pa.Table]:
    """The texts as packs of documents over a hundred months, none of them signed."""
    for at in range(0, table.num_rows, _PACK):
        part = table.slice(at, _PACK).combine_chunks()
        rows = range(at, at + part.num_rows)
        digests = [hashlib.sha256(f"{copy} {row}".encode()).digest() for row in rows]
        months = [datetime(2016 + row % 100 // 12, row % 100 % 12 + 1, 1, tzinfo=UTC) for row in rows]
        yield pa.table(
            {
                "doc_id": pa.array([one[:16] for one in digests], pa.binary(16)),
                "captured_at": pa.array(months, pa.timestamp("us", tz="UTC")),
                "host": pa.array([f"news{row % 50}.example" for row in rows]),
                "language": part["language"].cast(pa.string()),
                "place": pa.repeat(pa.scalar("reserve"), part.num_rows),
                "text": part["text"].cast(pa.large_string()),
                "text_sha256": pa.array(digests, pa.binary(32)),
                "signature": pa.nulls(part.num_rows, pa.binary(512)),
            }
        )


def documents(output: str) -> pa.Table:
    """The kept documents of an output, as the kernel takes them."""
    names = ["doc_id", "captured_at", "host", "language", "text", "text_sha256"]
    parts = sorted(Path(output).glob("re[sv]*/part-*.parquet")) + sorted(Path(output).glob("quarantine/part-*.parquet"))
    table = pa.concat_tables([pq.read_table(part, columns=names) for part in parts]).combine_chunks()
    binary = {"doc_id": pa.binary(16), "text_sha256": pa.binary(32)}
    for name, kind in binary.items():
        column = pa.array([bytes.fromhex(one) for one in table[name].to_pylist()], kind)
        table = table.set_column(table.schema.get_field_index(name), name, column)
    signatures = sign(table["text"].combine_chunks(), NearDup()).column()
    place = pa.repeat(pa.scalar("reserve"), table.num_rows)
    return table.append_column("signature", signatures).append_column("place", place)


if __name__ == "__main__":
    main()

"""WET shards → finished output, on one core: MB/s and documents/s of the whole job, of its stages and of their parts.

    python -m benchmarks.end_to_end --crawls 3              # needs the labelled text sets: --text ../shared/text
    python -m benchmarks.end_to_end --input 'crawl/*.wet.gz'

MB are 10^6 bytes of decompressed text. The whole is the `reserve run` command with one worker, start-up included; the
parts are the same kernels, called one after the other on the same batches, so that their sum can be held against the
stage that they make up.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from detectors import load_detector
from pipelines import files, language
from pipelines.ingest.options import Ingest
from pipelines.ingest.reader import read_shard
from pipelines.neardup.minhash import sign, warm_up
from pipelines.neardup.options import NearDup
from pipelines.provenance.hidden import hidden_characters
from pipelines.provenance.leaks import leaked_phrases

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "ARROW_IO_THREADS"), "1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", help="glob of WET shards; default: built from --text")
    parser.add_argument("--text", default="../shared/text", help="labelled text sets to build shards from")
    parser.add_argument("--docs", type=int, default=30000, help="of each crawl, as far as the texts go")
    parser.add_argument("--crawls", type=int, default=3, help="crawls to build, each with its own hosts and dates")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        pattern = options.input or build(options.text, options.docs, options.crawls, scratch)
        whole(pattern, os.path.join(scratch, "out"))
        parts(pattern, scratch)


def build(text: str, docs: int, crawls: int, scratch: str) -> str:
    """Builds WET shards with the tool that lies beside the text sets."""
    tool = Path(text).parent / "tools" / "build_crawl.py"
    folder = os.path.join(scratch, "crawl")
    for seed in range(crawls):
        command = [sys.executable, str(tool), "--text", text, "--out", f"{folder}/{seed}", "--docs", str(docs)]
        subprocess.run([*command, "--format", "wet", "--seed", str(seed)], check=True)
    return os.path.join(folder, "*", "*.wet.gz")


def whole(pattern: str, output: str) -> None:
    """The command as a user types it, with one worker, pinned to one core."""
    command = [sys.executable, "-m", "pipelines.cli", "run", "--input", pattern, "--output", output, "--workers", "1"]
    core = min(os.sched_getaffinity(0))
    began = time.perf_counter()
    done = subprocess.run(
        [*command, "--set", "keep_work=true", "--json"],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | _ONE_THREAD,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    documents, megabytes = staged(output)
    stages = {m[1]: float(m[2]) for m in re.finditer(r"^(\w+)\s.*, ([\d.]+) s$", done.stderr, re.MULTILINE)}
    stages["rest"] = seconds - sum(stages.values())
    print(f"\n{json.loads(done.stdout)['records']['in']} records, {megabytes:.1f} MB of text, one core")
    print(f"{'stage':<28}{'s':>8}{'MB/s':>9}{'docs/s':>10}{'share':>8}")
    for name, took in stages.items():
        row(name, took, megabytes, documents, seconds)
    row("reserve run", seconds, megabytes, documents, seconds)
    print(f"peak memory {peak:.0f} MB")


def parts(pattern: str, scratch: str) -> None:
    """The kernels of inspect, one after the other on the same batches."""
    detector = load_detector("embedded")
    warm_up()
    shards = sorted(glob.glob(pattern))
    compressed = sum(os.path.getsize(shard) for shard in shards)
    took: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = work()
        took[name] = took.get(name, 0.0) + time.perf_counter() - began
        return result

    batches = timed("gzip, WARC, documents", lambda: [batch for shard in shards for batch in read(shard)])
    texts = [batch.column("text").to_pylist() for batch in batches]
    megabytes = sum(pc.sum(pc.binary_length(batch.column("text"))).as_py() for batch in batches) / 1e6
    documents = sum(map(len, texts))
    languages = timed("language", lambda: [[language.identify(text) for text in group] for group in texts])
    timed("leaked phrases", lambda: [[leaked_phrases(text) for text in group] for group in texts])
    timed("hidden characters", lambda: [[hidden_characters(text) for text in group] for group in texts])
    detector.score(texts[0][:1], languages[0][:1])
    scored = zip(texts, languages, strict=True)
    timed("detector", lambda: [detector.score(group, codes) for group, codes in scored])
    timed("MinHash signatures", lambda: [sign(batch.column("text"), NearDup()) for batch in batches])
    table = pa.Table.from_batches(batches)
    for codec in ("lz4", "zstd"):
        path = os.path.join(scratch, f"{codec}.parquet")
        timed(f"Parquet, {codec}", lambda path=path, codec=codec: pq.write_table(table, path, compression=codec))
    total = sum(took.values())
    print(f"\nparts, each alone ({compressed / 1e6:.1f} MB compressed)")
    print(f"{'part':<28}{'s':>8}{'MB/s':>9}{'docs/s':>10}{'share':>8}")
    for name, seconds in took.items():
        row(name, seconds, megabytes, documents, total)


def read(shard: str) -> list[pa.RecordBatch]:
    with files.open_read(shard) as stream:
        return [part.documents for part in read_shard(stream, shard, Ingest(), lambda html, headers: [])]


def staged(output: str) -> tuple[int, float]:
    """Documents, and MB of text, that a run staged."""
    markers = [json.loads(Path(m).read_text()) for m in glob.glob(f"{output}/.work/staging/*/whole.json")]
    return sum(m["documents"] for m in markers), sum(m["text_bytes"] for m in markers) / 1e6


def row(name: str, seconds: float, megabytes: float, documents: int, total: float) -> None:
    print(f"{name:<28}{seconds:>8.2f}{megabytes / seconds:>9.1f}{documents / seconds:>10.0f}{seconds / total:>8.1%}")


if __name__ == "__main__":
    main()

"""MinHash signatures a second: ours, datasketch and rensa, on the same texts, in the same run, on one core.

    python -m benchmarks.signatures --docs 4000 --peers PYTHON     # one with rensa: pip install rensa==0.5.0 pyarrow

All make 128 values a text. What each starts from is in the table; text, string shingles and hashes are ready before
the clock starts. Beside the speed stands the root mean square error of the similarities that the values estimate,
over copies of known similarity.

- *ours, datasketch*: MinHash with 128 permutations, the same values bit by bit (a test holds them equal). datasketch
  is given the hashes that ours makes, so that only its own work is timed.
- *rensa R-MinHash, C-MinHash*: other sketches of the whole set of shingles; hashes of 64 bits, its own. Its batch
  calls, which make one matrix for all texts, are the fastest that it documents.
- *rensa rho*: its fastest; it looks at a sample of the shingles, so that it is no sketch of the set.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasketch import MinHash

from benchmarks.near_duplicate_texts import NEAR, Spelling, ordinary
from pipelines.neardup.minhash import minhash, sign, warm_up
from pipelines.neardup.options import NearDup
from pipelines.neardup.shingles import shingle_hashes

_WORDS = 400
_SEED = 1
_RENSA = "pip install rensa==0.5.0 pyarrow"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=int, default=4000)
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="the Python that has rensa")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    texts = build(options.docs)
    print(f"{texts.num_rows} texts of {_WORDS} words on average, {texts['text'].nbytes / 1e6:.1f} MB; one core")
    print(f"{'':<42}{'texts/s':>10}{'MB/s':>8}{'ours is':>10}{'error':>8}")
    first = None
    for name, (seconds, error) in itertools.chain(here(texts).items(), rensa(texts, options.peers).items()):
        first = first or seconds
        speed = f"{options.docs / seconds:>10,.0f}{texts['text'].nbytes / seconds / 1e6:>8.0f}"
        print(f"{name:<42}{speed}{seconds / first:>8.1f} x{error:>8.3f}")


def build(docs: int) -> pa.Table:
    """Texts, and for near copies the row of the original and the exact similarity to it."""
    plan, spelling = ordinary(docs, _WORDS, _SEED), Spelling(_SEED)
    rows = np.arange(docs)
    near = np.flatnonzero(plan.kind == NEAR)
    twin, jaccard = np.full(docs, -1), np.zeros(docs, np.float32)
    twin[near], jaccard[near] = plan.family[near], spelling.similarity(plan, near)
    texts = spelling.texts(plan, rows).cast(pa.large_string())
    return pa.table({"text": texts, "twin": twin, "jaccard": jaccard})


def here(table: pa.Table) -> dict[str, tuple[float, float]]:
    """What runs in this process: seconds, and the error of the estimates."""
    warm_up()
    options = NearDup()
    texts = table["text"].combine_chunks()
    hashes, offsets = shingle_hashes(texts, options.shingle)
    sets = [hashes[a:b].tolist() for a, b in itertools.pairwise(offsets)]

    def ours() -> Any:
        return sign(texts, options).values

    def kernel() -> Any:
        return minhash(hashes, offsets, options.permutations, options.seed)

    def datasketch() -> Any:
        return [_datasketch(values, options) for values in sets]

    ways = {
        "ours, from the texts": ours,
        "ours, from 32-bit hashes": kernel,
        "datasketch, from 32-bit hashes": datasketch,
    }
    return {name: _measured(work, table) for name, work in ways.items()}


def _datasketch(values: list[int], options: NearDup) -> Any:
    made = MinHash(options.permutations, options.seed, hashfunc=int, scheme="affine32")
    made.update_batch(values)
    return made.hashvalues


def _measured(work: Callable[[], Any], table: pa.Table) -> tuple[float, float]:
    seconds, made = best(work)
    values, twin = np.asarray(made), table["twin"].to_numpy()
    copies = np.flatnonzero(twin >= 0)
    estimates = (values[copies] == values[twin[copies]]).mean(axis=1)
    return seconds, float(np.sqrt(np.mean((estimates - table["jaccard"].to_numpy()[copies]) ** 2)))


def rensa(table: pa.Table, python: str) -> dict[str, tuple[float, float]]:
    """What rensa needs, in a process of its own; says so where it cannot be had."""
    if subprocess.run([python, "-c", "import rensa, pyarrow"], capture_output=True, check=False).returncode:
        print(f"missing: {python} has no rensa. {_RENSA}; then --peers PYTHON", file=sys.stderr)
        return {}
    script = Path(__file__).with_name("near_duplicate_peers.py")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "texts.parquet")
        pq.write_table(table, path)
        done = subprocess.run(
            [python, str(script), "rensa", path],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"RAYON_NUM_THREADS": "1"},
        )
    found = json.loads(done.stdout.splitlines()[-1])
    name = f"rensa {found['version']}"
    return {f"{name} {way}": (values["seconds"], values["error"]) for way, values in found["ways"].items()}


def best(work: Callable[[], Any], times: int = 9) -> tuple[float, Any]:
    """Seconds of the fastest of several runs, the one that the rest of the machine disturbed least, and its result."""
    runs = []
    for _ in range(times):
        began = time.perf_counter()
        result = work()
        runs.append((time.perf_counter() - began, result))
    return min(runs, key=lambda run: run[0])


if __name__ == "__main__":
    main()

"""The other libraries, run by a Python that has them; benchmarks.signatures and benchmarks.near_duplicates call this.

    PYTHON benchmarks/near_duplicate_peers.py datatrove TEXTS OUT WORKERS
    PYTHON benchmarks/near_duplicate_peers.py rensa FILE

Imports nothing of this project. Prints one line of JSON, last.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
import time
from collections.abc import Callable
from typing import Any


def datatrove(texts: str, out: str, workers: int) -> dict[str, Any]:
    """The four steps of its example of MinHash deduplication, with its settings: seconds of each.

    The example's last writer, of the documents that stay, is left out; those to drop go to ``OUT/removed``. A task for
    each worker: more would start as many processes more.
    """
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
    )
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.typeshelper import Languages

    config = MinhashConfig(hash_config=HashConfig(precision=64), num_buckets=14, hashes_per_bucket=8)
    reader = ParquetReader(texts, id_key="doc", glob_pattern="*.parquet")
    sign = MinhashDedupSignature(f"{out}/signatures", config=config, language=Languages.english)
    match = MinhashDedupBuckets(f"{out}/signatures", f"{out}/buckets", config=config)
    cluster = MinhashDedupCluster(f"{out}/buckets", f"{out}/remove", config=config)
    drop = MinhashDedupFilter(f"{out}/remove", exclusion_writer=JsonlWriter(f"{out}/removed", compression=None))
    steps = {
        "signatures": ([reader, sign], workers),
        "buckets": ([match], config.num_buckets),
        "cluster": ([cluster], 1),
        "filter": ([reader, drop], workers),
    }
    seconds = {}
    for name, (pipeline, tasks) in steps.items():
        executor = LocalPipelineExecutor(pipeline, tasks=tasks, workers=workers, logging_dir=f"{out}/logs/{name}")
        seconds[name] = _timed(executor.run)[0]
    return {"version": _version("datatrove"), "steps": seconds}


def rensa(path: str) -> dict[str, Any]:
    """Seconds for 128 values of each text, best of three, and the error of the similarities that they estimate.

    The file holds ``text``, and for copies ``twin``, the row of the original, and ``jaccard``, what is exact.
    """
    import numpy as np
    import pyarrow.parquet as pq
    from rensa import CMinHash, RMinHash

    table = pq.read_table(path)
    texts = table["text"].to_pylist()
    twins, exact = table["twin"].to_numpy(), table["jaccard"].to_numpy()
    copies = np.flatnonzero(twins >= 0)
    word, size = re.compile(r"\w+"), 5

    def shingles() -> list[list[str]]:
        found = []
        for text in texts:
            words = word.findall(text.lower())
            found.append([" ".join(words[i : i + size]) for i in range(max(1, len(words) - size + 1))])
        return found

    shingled = shingles()
    hashed = [np.array(row, np.uint64) for row in RMinHash.hash_token_sets(shingled)]
    flat, offsets = np.concatenate(hashed), np.cumsum([0, *map(len, hashed)]).astype(np.uint64)
    ways: dict[str, Callable[[], Any]] = {
        "R-MinHash, from the texts": lambda: RMinHash.digest_matrix_from_token_sets(shingles(), 128, 1),
        "R-MinHash, from string shingles": lambda: RMinHash.digest_matrix_from_token_sets(shingled, 128, 1),
        "R-MinHash, from 64-bit hashes": lambda: RMinHash.digest_matrix_from_flat_token_hashes(flat, offsets, 128, 1),
        "C-MinHash, from string shingles": lambda: CMinHash.digests64_from_token_sets(shingled, 128, 1),
        "rho, from string shingles": lambda: RMinHash.digest_matrix_from_token_sets_rho(shingled, 128, 1),
        "rho, from 64-bit hashes": lambda: RMinHash.digest_matrix_from_flat_token_hashes_rho(flat, offsets, 128, 1),
    }
    found = {}
    for name, work in ways.items():
        took, made = min((_timed(work) for _ in range(3)), key=lambda pair: pair[0])
        values = np.array(made if isinstance(made, list) else made.to_rows())
        estimates = (values[copies] == values[twins[copies]]).mean(axis=1)
        error = float(np.sqrt(np.mean((estimates - exact[copies]) ** 2)))
        found[name] = {"seconds": took, "error": error}
    return {"version": _version("rensa"), "ways": found}


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def _version(name: str) -> str:
    return importlib.metadata.version(name)


if __name__ == "__main__":
    if sys.argv[1] == "datatrove":
        print(json.dumps(datatrove(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
    else:
        print(json.dumps(rensa(sys.argv[2])))

"""MinHash signatures a second: our kernel and datasketch, on the same texts, in the same run, on one core.

    python -m benchmarks.signatures --docs 4000

Both make the same 128 values from the same shingle hashes (a test holds them equal bit by bit). Ours starts from the
texts; datasketch is given the finished hashes, so that only its own work is timed.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections.abc import Callable

import pyarrow as pa
from datasketch import MinHash

from pipelines.neardup.minhash import sign, warm_up
from pipelines.neardup.options import NearDup
from pipelines.neardup.shingles import shingle_hashes

_WORDS = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=int, default=4000)
    docs = parser.parse_args().docs
    rng = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(3000)]
    texts = pa.array([" ".join(rng.choices(words, k=_WORDS)) for _ in range(docs)], pa.large_string())
    options = NearDup()
    warm_up()
    hashes, offsets = shingle_hashes(texts, options.shingle)
    sets = [hashes[a:b].tolist() for a, b in itertools.pairwise(offsets)]

    def peer() -> None:
        for values in sets:
            MinHash(options.permutations, options.seed, hashfunc=int, scheme="affine32").update_batch(values)

    ours, theirs = best(lambda: sign(texts, options)), best(peer)
    print(f"{docs} documents of {_WORDS} words")
    print(f"ours        {docs / ours:>8,.0f} documents/s  {texts.nbytes / ours / 1e6:.0f} MB/s")
    print(f"datasketch  {docs / theirs:>8,.0f} documents/s")
    print(f"ratio       {theirs / ours:>8.1f}")


def best(work: Callable[[], object], times: int = 3) -> float:
    """Seconds of the fastest of several runs: the one that the rest of the machine disturbed least."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


if __name__ == "__main__":
    main()

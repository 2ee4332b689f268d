"""What a seal costs: settling with and without it, and verifying beside `sha256sum`.

    python -m benchmarks.sealing --input 'crawl/*.jsonl.gz' --repeat 5

One run stages the crawl and keeps its work; after that only settling, statistics and the seal are done again, with the
seal and without it in turn. Then the sealed output is verified, and `sha256sum` reads the same files, in turn. The
medians and their ratios are printed. Both readers find the files in memory.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pipelines.reserve.verify import verify

_SETTLE = re.compile(r"settle .*?([0-9.]+) s$", re.M)


def settle(inputs: list[str], output: Path, sealed: bool, workers: int) -> tuple[float, float]:
    """Seconds of the `settle` pipeline, and of the whole command."""
    command = [sys.executable, "-m", "pipelines.cli", "run", "--input", *inputs, "--output", str(output)]
    command += ["--overwrite", "--workers", str(workers)]
    command += ["--set", "keep_work=true", "--set", f"seal.enabled={str(sealed).lower()}"]
    # The summary's absence makes the command go on where the work lies.
    (output / "summary.json").unlink(missing_ok=True)
    shutil.rmtree(output / ".work" / "settled", ignore_errors=True)
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    return float(_SETTLE.findall(done.stderr)[-1]), seconds


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", nargs="+", required=True)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out"
        output.mkdir()
        settle(options.input, output, True, options.workers)
        found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for _ in range(options.repeat):
            for sealed in found:
                found[sealed].append(settle(options.input, output, sealed, options.workers))
        print("| | settle s | whole command s |\n|---|---:|---:|")
        medians = {s: [statistics.median(column) for column in zip(*rows, strict=True)] for s, rows in found.items()}
        for sealed, row in medians.items():
            print(f"| {'with' if sealed else 'without'} a seal | {row[0]:.1f} | {row[1]:.2f} |")
        ratios = [with_ / without for with_, without in zip(medians[True], medians[False], strict=True)]
        print(f"| ratio | {ratios[0]:.3f} | {ratios[1]:.3f} |")
        shutil.rmtree(output / ".work")
        paths = [str(path) for path in output.rglob("*") if path.is_file()]
        size = sum(Path(path).stat().st_size for path in paths)
        result = verify(str(output))
        assert result.whole, result.problems
        ours, theirs = [], []
        for _ in range(options.repeat):
            ours.append(timed(lambda: verify(str(output))))
            theirs.append(timed(lambda: subprocess.run(["sha256sum", *paths], capture_output=True, check=True)))
        mine, other = statistics.median(ours), statistics.median(theirs)
        print(f"\n{len(paths):,} files, {size / 1e6:.1f} MB, {result.documents:,} documents")
        print(f"verify {size / mine / 1e6:.0f} MB/s, sha256sum {size / other / 1e6:.0f} MB/s, ratio {other / mine:.2f}")


if __name__ == "__main__":
    main()

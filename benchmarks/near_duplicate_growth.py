"""How the time and the memory of near-duplicate removal grow with the number of documents, and with odd ones.

    python -m benchmarks.near_duplicate_growth --folder SCRATCH --workers 2      # 100,000 to 1,000,000; builds 5 GB
    python -m benchmarks.near_duplicate_growth --folder SCRATCH --sizes 20000 60000 --identical 20000 --chain 20000

Runs the ``reserve dedup`` command, start-up included, on texts of benchmarks/near_duplicate_texts.py.

- *to linear*: the time beside that of the first size, for each document; below 1 is better than linear.
- *MB, command* and *MB, worker*: the most memory that the command's own process and its largest worker held; with one
  worker there is no other process. *bytes a document*: by how much the larger of the two grew since the first size.
- *identical*: half of the documents are one text. *chain*: a tenth of them are a chain, each much like the next
  (J = 0.90), its ends unlike; all are one cluster. *to ordinary*: the time beside that of as many ordinary documents.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.near_duplicate_texts import Plan, chain, identical, ordinary, write
from benchmarks.near_duplicates import dedup

_SEED = 1


class Point(NamedTuple):
    """One run: seconds, processor time, the most MB of the command and of its largest worker, documents dropped."""

    docs: int
    seconds: float
    cpu: float
    command: float
    worker: float
    dropped: int

    @property
    def peak(self) -> float:
        """The most MB that any of its processes held."""
        return max(self.command, self.worker)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the texts are built, and found again")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--identical", type=int, default=200_000, help="documents, half of which are one text; 0: none")
    parser.add_argument("--chain", type=int, default=100_000, help="documents, a tenth of which are a chain; 0: none")
    parser.add_argument("--words", type=int, default=400, help="in a document, on average (default: 400)")
    parser.add_argument("--workers", type=int, default=2, help="0: as many as the work is worth")
    options = parser.parse_args()
    growth(options)
    shapes(options)


def growth(options: argparse.Namespace) -> None:
    """Prints a line for each size."""
    print(f"{'documents':>10}{'s':>9}{'CPU s':>9}{'docs/s':>9}{'to linear':>11}", end="")
    print(f"{'MB, command':>13}{'MB, worker':>12}{'bytes a document':>18}{'dropped':>10}")
    first = None
    for docs in options.sizes:
        point = measure(options, f"ordinary-{docs}", ordinary(docs, options.words, _SEED))
        first = first or point
        linear = point.seconds / point.docs / (first.seconds / first.docs)
        grown = (point.peak - first.peak) * 1e6 / (point.docs - first.docs) if point.docs > first.docs else None
        print(f"{_line(point)}{linear:>11.2f}{point.command:>13,.0f}{point.worker:>12,.0f}", end="")
        print(f"{'' if grown is None else f'{grown:,.0f}':>18}{point.dropped:>10,}", flush=True)


def shapes(options: argparse.Namespace) -> None:
    """Prints a line for each odd collection, after one for the ordinary one of its size."""
    odd: list[tuple[str, int, Plan]] = []
    if docs := options.identical:
        odd.append((f"{docs // 2:,} identical", docs, identical(docs, docs // 2, options.words, _SEED)))
    if docs := options.chain:
        odd.append((f"chain of {docs // 10:,}", docs, chain(docs, docs // 10, options.words, _SEED)))
    if odd:
        print(
            f"\n{'':<24}{'documents':>10}{'s':>9}{'CPU s':>9}{'docs/s':>9}{'to ordinary':>13}{'MB':>9}{'dropped':>10}"
        )
    for name, docs, plan in odd:
        usual = measure(options, f"ordinary-{docs}", ordinary(docs, options.words, _SEED))
        point = measure(options, f"{name.replace(' ', '-')}-{docs}", plan)
        print(f"{'ordinary':<24}{_line(usual)}{'':>13}{usual.peak:>9,.0f}{usual.dropped:>10,}")
        beside = point.seconds / usual.seconds
        print(f"{name:<24}{_line(point)}{beside:>13.2f}{point.peak:>9,.0f}{point.dropped:>10,}", flush=True)


def measure(options: argparse.Namespace, name: str, plan: Plan) -> Point:
    """Builds the texts, unless they are there, and runs the command over them."""
    docs = len(plan.kind)
    texts = write(options.folder / name, plan, max(1, docs // 12_500), _SEED)
    with tempfile.TemporaryDirectory(dir=options.folder) as output:
        run, read, dropped = dedup(texts, Path(output), ["--workers", str(options.workers)])
    if read != docs:
        raise RuntimeError(f"{texts}: {read:,} of {docs:,} documents were read")
    peaks = [process.peak for process in run.processes] + [0.0, 0.0]
    cpu = sum(process.cpu for process in run.processes)
    return Point(docs, run.seconds, cpu, peaks[0], peaks[1], len(dropped))


def _line(point: Point) -> str:
    return f"{point.docs:>10,}{point.seconds:>9.1f}{point.cpu:>9.1f}{point.docs / point.seconds:>9,.0f}"


if __name__ == "__main__":
    main()

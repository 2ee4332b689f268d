"""From Parquet files of text to the list of documents to drop: ours, datatrove and text-dedup, on the same files.

    python -m benchmarks.near_duplicates --docs 100000 --workers 2 --peers PEERS/bin/python

The peers' Python is one of its own (these versions were run; text-dedup's other dependencies, Spark among them, are not
those of its MinHash):

    python3.11 -m venv PEERS
    PEERS/bin/pip install 'datatrove[processing,io]==0.10.1' spacy==3.8.18 rensa==0.5.0 datasketch==2.0.0
    PEERS/bin/pip install --no-deps text-dedup==0.4.0
    PEERS/bin/pip install 'click<9' click-option-group 'rich<14' ftfy regex

Each runs as a command, start-up included, on as many cores as there are workers. *CPU s* is the processor time of all
its processes, which the rest of the machine disturbs less; *ours is* compares the seconds on the clock. Settings:

- *ours*: ``reserve dedup`` with its defaults: threshold 0.8, 128 permutations, shingles of 5 words. Without
  ``--workers`` it starts as many as the work is worth, and again with as many as the others.
- *datatrove*: the four steps of its example of MinHash deduplication with that example's settings: 14 buckets of 8
  hashes of 64 bits, 5-grams of words by its English tokeniser (spaCy's blank pipeline, nothing is downloaded). The
  documents that stay are not written. Three steps give the list; the ratio is given with and without the fourth.
  Most of its time is the tokeniser's, which takes as long over these texts as over English ones. Its settings find
  pairs from a similarity of about 0.72 on, and it verifies none.
- *text-dedup*: ``python -m text_dedup.minhash`` with ``--threshold 0.8 --num_perm 128`` (its defaults are 0.7 and 250,
  which is slower), else its defaults: 5-grams, SHA-1. It writes the documents that stay.

Printed is also what became of the planted copies (benchmarks/near_duplicate_texts.py), each one of a pair: how many are
dropped, and *lost*: documents of which no copy is kept.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.near_duplicate_texts import ordinary, write
from pipelines.neardup.minhash import warm_up

_SEED = 1
_SETTLED = 0.8  # the threshold of all three, and the similarity from which a copy should be found
_POLL = 0.25  # seconds between two looks at the processes
_KILOBYTE = 1024 / 1e6  # in MB


class Process(NamedTuple):
    """One process of a command: the most memory that it held, in MB, and the seconds of processor time that it took."""

    pid: int
    peak: float
    cpu: float


class Run(NamedTuple):
    """A finished command: wall-clock seconds, its processes with itself first, the largest sum of all, its output."""

    seconds: float
    processes: list[Process]
    together: float
    output: str


class Entry(NamedTuple):
    """What one tool did with so many documents; ``shown`` are further figures that it gave."""

    name: str
    docs: int
    run: Run
    dropped: npt.NDArray[np.int64]
    shown: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=int, default=100_000)
    parser.add_argument("--peer-docs", type=int, help="documents for the peers: as many unless given")
    parser.add_argument("--words", type=int, default=400, help="in a document, on average (default: 400)")
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="the Python that has the peers")
    parser.add_argument("--only", nargs="+", choices=("datatrove", "text-dedup"), help="of the peers")
    parser.add_argument("--folder", type=Path, help="where the texts are built, and found again (default: temporary)")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder and parent(options.folder))))
        folder = options.folder or scratch
        compare(options, folder, scratch)


def parent(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def compare(options: argparse.Namespace, folder: Path, scratch: Path) -> None:
    """Runs all tools and prints what they needed and found."""
    pin(options.workers)
    tools = {"ours": ours, "ours, --workers": ours_with_workers, "datatrove": datatrove, "text-dedup": text_dedup}
    entries: list[Entry] = []
    print(f"{options.workers} workers on as many cores")
    print(f"{'':<26}{'documents':>10}{'s':>9}{'CPU s':>9}{'docs/s':>9}{'ours is':>9}{'MB, largest':>13}{'MB, all':>9}")
    for name, tool in tools.items():
        own = name.startswith("ours")
        if options.only and not own and name not in options.only:
            continue
        docs = options.docs if own else options.peer_docs or options.docs
        texts = build(folder, docs, options.words, options.files)
        try:
            entry = tool(texts, scratch, options.workers, options.peers)
        except RuntimeError as error:
            if own:
                raise
            print(f"{name:<26}failed: {error}", flush=True)
            continue
        if entry is not None:
            entries.append(entry)
            show_speed(entry, entries[0])
    print(f"\n{'':<26}{'near, J >= 0.8':>25}{'near, J < 0.8':>25}{'exact':>25}{'lost':>8}")
    for entry in entries:
        truth = pq.read_table(folder / str(entry.docs) / "truth.parquet")
        print(f"{entry.name:<26}{judged(truth, entry.dropped)}")


def build(folder: Path, docs: int, words: int, files: int) -> str:
    return write(folder / str(docs), ordinary(docs, words, _SEED), files, _SEED)


def ours(texts: str, scratch: Path, workers: int, python: str) -> Entry:
    """The command as it is typed; neither ``workers`` nor ``python`` is used."""
    run, docs, dropped = dedup(texts, scratch / "ours", [])
    return Entry("ours", docs, run, dropped, {})


def ours_with_workers(texts: str, scratch: Path, workers: int, python: str) -> Entry:
    """The command with a number of workers; ``python`` is not used."""
    run, docs, dropped = dedup(texts, scratch / "ours", ["--workers", str(workers)])
    return Entry(f"ours, --workers {workers}", docs, run, dropped, {})


def dedup(texts: str, output: Path, more: list[str]) -> tuple[Run, int, npt.NDArray[np.int64]]:
    """Runs our command; gives the run, how many documents it read and which it drops."""
    warm_up()  # the kernels are compiled once an installation
    command = [sys.executable, "-m", "pipelines.cli", "dedup", texts, "--output", str(output), "--overwrite", "--json"]
    run = watched([*command, *more])
    found = pq.read_table(output / "duplicates.parquet", columns=["file", "row"])
    first = first_rows(texts)
    names = pa.array([os.path.basename(path) for path in first])
    at = pc.index_in(found["file"], names).to_numpy()
    dropped = np.array(list(first.values()), np.int64)[at] + found["row"].to_numpy()
    return run, json.loads(run.output)["documents"], dropped


def datatrove(texts: str, scratch: Path, workers: int, python: str) -> Entry | None:
    """Its four steps, run by benchmarks/near_duplicate_peers.py."""
    if missing(python, "datatrove", "datatrove.pipeline.dedup.minhash, spacy"):
        return None
    output = scratch / "datatrove"
    script = Path(__file__).with_name("near_duplicate_peers.py")
    run = watched([python, str(script), "datatrove", os.path.dirname(texts), str(output), str(workers)])
    found = json.loads(run.output.splitlines()[-1])
    lines = [line for path in glob.glob(f"{output}/removed/*.jsonl") for line in Path(path).read_text().splitlines()]
    dropped = np.array([int(json.loads(line)["id"]) for line in lines], np.int64)
    return Entry(f"datatrove {found['version']}", documents(texts), run, dropped, found["steps"])


def text_dedup(texts: str, scratch: Path, workers: int, python: str) -> Entry | None:
    """Its command line; it gives the documents that stay, so the others are those that it dropped."""
    if missing(python, "text-dedup", "text_dedup.minhash"):
        return None
    output, cache = scratch / "text-dedup", scratch / "cache"
    command = [python, "-m", "text_dedup.minhash", "--path", "parquet", "--data_files", texts, "--split", "train"]
    command += ["--cache_dir", str(cache), "--output", str(output), "--column", "text", "--num_proc", str(workers)]
    run = watched(
        [*command, "--threshold", "0.8", "--num_perm", "128"], {"HF_HOME": str(cache), "HF_DATASETS_OFFLINE": "1"}
    )
    kept = np.concatenate([_column(path, "doc") for path in sorted(glob.glob(f"{output}/*.arrow"))])
    docs = documents(texts)
    dropped = np.setdiff1d(np.arange(docs), kept)
    version = subprocess.run(
        [python, "-c", "import importlib.metadata as m; print(m.version('text-dedup'))"],
        check=True,
        capture_output=True,
        text=True,
    )
    return Entry(f"text-dedup {version.stdout.strip()}", docs, run, dropped, {})


def _column(path: str, name: str) -> Any:
    with pa.ipc.open_stream(path) as stream:
        return stream.read_all()[name].to_numpy()


def missing(python: str, name: str, modules: str) -> bool:
    """Whether a peer cannot be imported; says so."""
    done = subprocess.run([python, "-c", f"import {modules}"], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{name:<26}missing: {done.stderr.strip().splitlines()[-1]}; how to install it: --help")
    return bool(done.returncode)


def first_rows(texts: str) -> dict[str, int]:
    """The number of each file's first document."""
    paths = sorted(glob.glob(texts))
    rows = [pq.read_metadata(path).num_rows for path in paths]
    return dict(zip(paths, np.cumsum([0, *rows[:-1]]).tolist(), strict=True))


def documents(texts: str) -> int:
    return sum(pq.read_metadata(path).num_rows for path in glob.glob(texts))


def show_speed(entry: Entry, ours: Entry) -> None:
    """Prints a line for the whole, and one for the time to the list where that is not the whole."""
    largest = max((process.peak for process in entry.run.processes), default=0.0)
    cpu = sum(process.cpu for process in entry.run.processes)
    memory = f"{largest:>13,.0f}{entry.run.together:>9,.0f}"
    print(f"{entry.name:<26}{_speed(entry.docs, entry.run.seconds, cpu, ours)}{memory}", flush=True)
    if entry.shown:
        steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in entry.shown.items())
        last = list(entry.shown.values())[-1]
        print(
            f"{'  until the list is there':<26}{_speed(entry.docs, entry.run.seconds - last, None, ours)}  s: {steps}"
        )


def _speed(docs: int, seconds: float, cpu: float | None, ours: Entry) -> str:
    """Documents, seconds, documents a second and by how much ours is faster, at whatever size each was run."""
    ratio = ours.docs / ours.run.seconds * seconds / docs
    processor = "" if cpu is None else f"{cpu:.1f}"
    return f"{docs:>10,}{seconds:>9.1f}{processor:>9}{docs / seconds:>9,.0f}{ratio:>7.1f} x"


def judged(truth: pa.Table, dropped: npt.NDArray[np.int64]) -> str:
    """Planted copies dropped, of each kind, and documents of which nothing is kept."""
    family, jaccard = truth["family"].to_numpy(), truth["jaccard"].to_numpy()
    gone = np.bincount(family[dropped], minlength=len(family))
    near = np.asarray(pc.equal(truth["kind"].cast(pa.string()), "near"))
    exact = np.asarray(pc.equal(truth["kind"].cast(pa.string()), "exact"))
    text = ""
    for copies in (near & (jaccard >= _SETTLED), near & (jaccard < _SETTLED), exact):
        pairs = family[copies]
        found = int((gone[pairs] > 0).sum())
        text += f"{f'{found:,} of {len(pairs):,}, {found / max(1, len(pairs)):.3f}':>25}"
    members = np.bincount(family, minlength=len(family))
    return f"{text}{int(((gone == members) & (members > 0)).sum()):>8,}"


def pin(cores: int) -> None:
    """Keeps this process and all that it starts to so many cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def watched(command: Sequence[str], environment: dict[str, str] | None = None) -> Run:
    """Runs a command and looks at the memory of all its processes (Linux; elsewhere none are seen).

    A process's peak is the high-water mark that the kernel keeps. ``together`` is the largest sum of the sizes at one
    moment, which counts pages that processes share once for each. Raises RuntimeError if the command fails.
    """
    seen: dict[int, Process] = {}
    together = 0.0
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=out, stderr=errors, env=os.environ | (environment or {}), start_new_session=True
        )
        try:
            while process.poll() is None:
                now = list(_processes(process.pid))
                seen.update({found.pid: found for found, _ in now})
                together = max(together, sum(size for _, size in now))
                time.sleep(_POLL)
            seconds = time.perf_counter() - began
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what a stopped or failed command left running
        out.seek(0), errors.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{errors.read()[-3000:]}")
        first = [seen.pop(process.pid)] if process.pid in seen else []
        others = sorted(seen.values(), key=lambda other: -other.peak)
        return Run(seconds, first + others, together, out.read())


def _processes(session: int) -> Iterator[tuple[Process, float]]:
    """Each process of a session, and what it holds now, in MB."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, KeyError, IndexError):
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(stat[3]) == session:
                status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
                peak, size = (int(status[key].split()[0]) * _KILOBYTE for key in ("VmHWM", "VmRSS"))
                cpu = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
                yield Process(int(folder.name), peak, cpu), size


if __name__ == "__main__":
    main()

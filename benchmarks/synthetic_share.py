"""The synthetic share on crawls with known truth: truth, estimate and interval, and how many intervals hold the truth.

    python -m benchmarks.synthetic_share --docs 20000 --unseen               # without a shift of the detector
    python -m benchmarks.synthetic_share --docs 20000 --unseen --machine-sets outfox   # machine text all of one kind
    python -m benchmarks.synthetic_share --docs 100000 --machine-share 0.005 0.05 0.6 --months

Needs the labelled text sets (--text ../shared/text), of which a crawl is built for each --machine-share: the share that
the host class with the most machine text tends to; the classes' own shares follow from it. The embedded detector was
trained on texts of all these sets, and finds them more easily than what it has not seen. With --unseen the crawl is
built only of texts that training did not use, but there are fewer of them, and a crawl ends when they do. With
--machine-sets all machine text comes of the sets named: another kind of text than what the detector's rates were
measured on. A detector that never saw a set at all can be given by --detector.

The intervals are of 95 %: with some hundred cells, five in a hundred miss the truth where all is well.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from detectors.corpus import SCORED_CHARACTERS, text_key
from detectors.embedded import Embedded
from detectors.levelling import level
from pipelines.job import load_job
from pipelines.run import run
from pipelines.statistics.host_class import host_classes

METHODS = {"rogan-gladen": "", "likelihood": "_likelihood"}  # the endings of their columns
MARGINS = ("all", "language", "host_class", "month", "month×host_class")
_PLACES = ("reserve", "quarantine", "review", "duplicates")
_COLUMNS = ["url", "host", "captured_at", "language", "verdict", "machine_probability"]

Held = dict[tuple[str, str, str], list[bool]]  # by margin, method, and whether the cell has enough documents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", default="../shared/text", help="labelled text sets to build the crawls from")
    parser.add_argument("--docs", type=int, default=20000)
    parser.add_argument("--machine-share", type=float, nargs="+", default=[0.005, 0.1, 0.6], metavar="SHARE")
    parser.add_argument(
        "--unseen", action="store_true", help="only texts that the embedded detector was not trained on"
    )
    parser.add_argument("--machine-sets", nargs="+", metavar="SET", help="machine text of these sets alone")
    parser.add_argument("--detector", default="embedded", help="'embedded' or the folder of a detector")
    parser.add_argument("--months", action="store_true", help="print each month, not only how many hold the truth")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    tool = Path(options.text).parent / "tools" / "build_crawl.py"
    with tempfile.TemporaryDirectory() as scratch:
        text = chosen(Path(options.text), Path(scratch, "text"), options.unseen, options.machine_sets)
        for share in options.machine_share:
            folder = Path(scratch, f"at-{share}")
            command = [sys.executable, str(tool), "--text", str(text), "--out", f"{folder}/crawl", "--format", "jsonl"]
            command += ["--docs", str(options.docs), "--ceiling", str(share), "--seed", str(options.seed)]
            print(f"\n## Machine text up to {share:.1%} of a host class", flush=True)
            subprocess.run(command, check=True)
            job = {"input": [f"{folder}/crawl/*.jsonl.gz"], "output": f"{folder}/out", "workers": options.workers}
            job |= {"inspect": {"detector": options.detector}}
            loaded = load_job(None, job)
            run(loaded)
            compare(folder / "crawl" / "truth.parquet", folder / "out", loaded.cutoff_at, options.months)


def chosen(source: Path, target: Path, unseen: bool, machine_sets: Sequence[str] | None) -> Path:
    """Copies the text sets without the texts, and groups, that training used, and with machine text of some sets."""
    target.mkdir()
    seen = Embedded().seen()
    if missing := set(machine_sets or ()) - {path.stem for path in source.glob("*.parquet")}:
        raise SystemExit(f"--machine-sets: {source} has no {', '.join(sorted(missing))}")
    for path in sorted(source.glob("*.parquet")):
        table = pq.read_table(path)
        whole = table.num_rows
        if machine_sets is not None and path.stem not in machine_sets:
            table = table.filter(pc.equal(table["label"], "human"))
        if unseen:
            texts = seen.contains([text_key(level(text[:SCORED_CHARACTERS])) for text in table["text"].to_pylist()])
            groups = seen.contains([text_key(group) for group in table["group"].to_pylist()])
            table = table.filter(pa.array(~(texts | groups)))
        pq.write_table(table, target / path.name)
        print(f"{path.stem}: {table.num_rows} of {whole} texts")
    return target


def held_out(source: Path, target: Path) -> Path:
    """Copies the text sets without what training used."""
    return chosen(source, target, unseen=True, machine_sets=None)


def compare(truth_file: Path, output: Path, cutoff: datetime, months: bool) -> None:
    """Prints truth beside estimate over the documents after the cut-off that could be judged."""
    documents = judged(truth_file, output, cutoff)
    table = pq.read_table(output / "statistics" / "prevalence.parquet")
    table = table.filter(pc.and_(pc.equal(table["population"], "crawled"), pc.is_null(table["host"])))
    if "detector" in table.schema.names:
        table = table.filter(pc.equal(table["detector"], table["detector"][0]))
    agree = pc.sum(pc.equal(documents["host_class"], documents["true_class"])).as_py()
    print(f"\n{documents.num_rows} documents judged; {agree} of them of the class that the crawl gave their host")
    print(f"{'':<30}{'judged':>7}{'truth':>8}" + "".join(f"{name + ' (95 %)':^36}" for name in METHODS))
    held: Held = defaultdict(list)
    by_margin = {name: groups(documents, name) for name in MARGINS}
    for cell in table.to_pylist():
        margin, unit = cell["margin"], cell["unit"]
        if margin not in MARGINS or not cell["judged"] or unit == "tokens" or (unit == "hosts" and margin != "all"):
            continue
        name = tuple(cell[key] for key in margin.split("×")) if margin != "all" else ()
        mine = by_margin[margin][name]
        shown = margin in MARGINS[:3] or (months and margin == "month")
        line(f"{' '.join(name) or 'all'} by {unit}"[:29], cell, truth_of(mine, unit), mine.num_rows, held, shown)
    few = sum(len(found) for (_, _, size), found in held.items() if size == "few") // 2
    print(
        f"\nIntervals of 95 % that hold the truth, of cells with enough documents ({few} others are too few to count):"
    )
    for (margin, method, size), found in sorted(held.items()):
        if size == "enough":
            print(f"  {margin:<18}{method:<14}{sum(found):>5} of {len(found):<5}{sum(found) / len(found):>7.1%}")


def judged(truth_file: Path, output: Path, cutoff: datetime) -> pa.Table:
    """The documents in question, with truth, month and both host classes."""
    parts = [
        pq.read_table(part, columns=_COLUMNS)
        for place in _PLACES
        for part in sorted((output / place).glob("part-*.parquet"))
    ]
    table = pa.concat_tables(parts, promote_options="permissive")
    judged = pc.or_(
        pc.is_valid(table["machine_probability"]),
        pc.is_in(table["verdict"], pa.array(["declared", "marked", "dated"])),
    )
    late = pc.fill_null(pc.greater_equal(table["captured_at"], pa.scalar(cutoff)), True)
    table = table.filter(pc.and_(late, judged))
    truth = pq.read_table(truth_file, columns=["url", "label", "host_class"])
    at = pc.index_in(table["url"], truth["url"])
    renamed = {"wiki": "reference", "edu": "education"}
    columns = {
        "machine": pc.equal(truth["label"], "machine").take(at),
        "true_class": pa.array([renamed.get(name, name) for name in truth["host_class"].take(at).to_pylist()]),
        "host_class": host_classes(table["host"]),
        "month": pc.strftime(table["captured_at"], "%Y-%m"),
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


def groups(documents: pa.Table, margin: str) -> dict[tuple[str, ...], pa.Table]:
    """The documents of each cell of a margin."""
    keys = margin.split("×") if margin != "all" else []
    names = list(zip(*(documents[key].to_pylist() for key in keys), strict=True)) if keys else [()] * len(documents)
    rows = defaultdict(list)
    for at, name in enumerate(names):
        rows[name].append(at)
    return {name: documents.take(at) for name, at in rows.items()}


def truth_of(documents: pa.Table, unit: str) -> float:
    """The share of machine text: of documents, or the mean over hosts."""
    machine = documents["machine"].to_numpy(zero_copy_only=False).astype(float)
    if unit == "hosts":
        _, host, size = np.unique(documents["host"].to_pylist(), return_inverse=True, return_counts=True)
        return float((np.bincount(host, machine) / size).mean())
    return float(machine.mean())


def line(name: str, cell: dict[str, Any], share: float, documents: int, held: Held, shown: bool) -> None:
    """Notes, and prints, whether the interval of each method holds the truth; some cells have none."""
    text = f"{name:<30}{documents:>7}{share:>8.2%}"
    for method, suffix in METHODS.items():
        estimate, low, high = (cell[f"{part}{suffix}"] for part in ("estimate", "low", "high"))
        if low is None:
            text += f"{'–':^36}"
            continue
        holds = low - 1e-9 <= share <= high + 1e-9
        if cell["unit"] == "documents":
            held[cell["margin"], method, "few" if cell["too_few"] else "enough"].append(holds)
        text += f"{'–' if estimate is None else f'{estimate:.2%}':>10}{low:>8.2%} – {high:<8.2%}"
        text += f"{'holds' if holds else 'misses':<8}"
    if shown:
        print(text + ("  too few" if cell["too_few"] else ""))


if __name__ == "__main__":
    main()

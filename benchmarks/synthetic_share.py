"""The synthetic share on a crawl with known truth: truth, estimate and interval by both methods, overall and by month.

    python -m benchmarks.synthetic_share --docs 20000            # needs the labelled text sets: --text ../shared/text
    python -m benchmarks.synthetic_share --docs 5000 --unseen    # only of texts that the detector was not trained on

The labelled text sets are also what the embedded detector was trained on. A crawl built from all of them flatters it;
with --unseen the crawl is built of held-out texts alone, which is what a user's crawl is like at best.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from detectors.corpus import SCORED_CHARACTERS, text_key
from detectors.embedded import Embedded
from detectors.levelling import level
from pipelines.job import load_job
from pipelines.run import run

METHODS = {"rogan-gladen": "", "likelihood": "_likelihood"}  # the endings of their columns
_PLACES = ("reserve", "quarantine", "review", "duplicates")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", default="../shared/text", help="labelled text sets to build the crawl from")
    parser.add_argument("--docs", type=int, default=20000)
    parser.add_argument("--ceiling", type=float, default=0.6, help="the share that the steepest host class tends to")
    parser.add_argument("--unseen", action="store_true", help="only texts that the detector was not trained on")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        text = held_out(Path(options.text), Path(scratch, "text")) if options.unseen else Path(options.text)
        tool = Path(options.text).parent / "tools" / "build_crawl.py"
        command = [sys.executable, str(tool), "--text", str(text), "--out", f"{scratch}/crawl", "--format", "jsonl"]
        command += ["--docs", str(options.docs), "--ceiling", str(options.ceiling), "--seed", str(options.seed)]
        subprocess.run(command, check=True)
        job = load_job(None, {"input": [f"{scratch}/crawl/*.jsonl.gz"], "output": f"{scratch}/out"})
        summary = run(job).summary
        compare(Path(scratch, "crawl", "truth.parquet"), Path(scratch, "out"), job.cutoff_at)
        print(json.dumps(summary["synthetic_share"], indent=2))


def held_out(source: Path, target: Path) -> Path:
    """Copies the text sets without the texts, and groups, that training used."""
    target.mkdir()
    seen = Embedded().seen()
    for path in sorted(source.glob("*.parquet")):
        table = pq.read_table(path)
        texts = seen.contains([text_key(level(text[:SCORED_CHARACTERS])) for text in table["text"].to_pylist()])
        groups = seen.contains([text_key(group) for group in table["group"].to_pylist()])
        unseen = table.filter(pa.array(~(texts | groups)))
        pq.write_table(unseen, target / path.name)
        print(f"{path.stem}: {unseen.num_rows} of {table.num_rows} texts were not used in training")
    return target


def compare(truth_file: Path, output: Path, cutoff: datetime) -> None:
    """Prints truth beside estimate over the documents after the cut-off that could be judged."""
    truth = pq.read_table(truth_file)
    machine = dict(zip(truth["url"].to_pylist(), pc.equal(truth["label"], "machine").to_pylist(), strict=True))
    columns = ["url", "captured_at", "language", "verdict", "machine_probability"]
    rows = [
        row
        for place in _PLACES
        for part in sorted((output / place).glob("part-*.parquet"))
        for row in pq.read_table(part, columns=columns).to_pylist()
    ]
    judged = [
        row
        for row in rows
        if row["captured_at"].astimezone(UTC) >= cutoff
        and (row["machine_probability"] is not None or row["verdict"] in ("declared", "marked", "dated"))
    ]
    prevalence = pq.read_table(output / "statistics" / "prevalence.parquet").to_pylist()
    cells = [c for c in prevalence if c["unit"] == "documents" and c["population"] == "crawled"]
    overall = next(c for c in cells if c["margin"] == "all")
    print(f"\n{'':<27}" + "".join(f"{name:^38}" for name in METHODS))
    print(f"{'':<10}{'judged':>8}{'truth':>9}" + f"{'estimate':>12}   95 % interval   holds" * len(METHODS))
    line("all", overall, [machine[row["url"]] for row in judged])
    for cell in (c for c in cells if c["margin"] == "language" and c["scored"]):
        mine = [machine[row["url"]] for row in judged if row["language"] == cell["language"]]
        line(cell["language"], cell, mine)
    held: dict[str, list[bool]] = {name: [] for name in METHODS}
    for cell in (c for c in cells if c["margin"] == "month" and c["judged"]):
        mine = [machine[row["url"]] for row in judged if row["captured_at"].strftime("%Y-%m") == cell["month"]]
        for name, holds in line(cell["month"], cell, mine).items():
            held[name].append(holds)
    for name, found in held.items():
        print(f"{name}: {sum(found)} of {len(found)} monthly intervals hold the truth")


def line(name: str, cell: dict[str, Any], machine: list[bool]) -> dict[str, bool]:
    """Prints one cell; gives whether the interval of each method holds the truth, without those that have none."""
    share = sum(machine) / max(1, len(machine))
    text, held = f"{name:<10}{len(machine):>8}{share:>9.1%}", {}
    for method, suffix in METHODS.items():
        estimate, low, high = (cell[f"{part}{suffix}"] for part in ("estimate", "low", "high"))
        if low is None:
            text += f"{'–':>12}{'':26}"
            continue
        held[method] = low <= share <= high
        text += f"{'–' if estimate is None else f'{estimate:.1%}':>12}{low:>8.1%} – {high:<7.1%}"
        text += f"{'yes' if held[method] else 'no':>5}   "
    print(text)
    return held


if __name__ == "__main__":
    main()

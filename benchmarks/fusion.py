"""How well the posterior is calibrated on a crawl with known truth, and what its measured terms rest on.

    python -m benchmarks.fusion crawl --docs 20000 --unseen   # Brier score and calibration error of `posterior`
    python -m benchmarks.fusion kinds                         # counts of fusion.yaml: findings in labelled texts
    python -m benchmarks.fusion terms                         # the table of terms, as docs/fusion.md shows it

One crawl is run four times with different priors, over the same staged documents: the package's, the estimates of the
first run, a flat one at the crawl's overall share, and the crawl's true monthly shares. All rows of a table are of the
same documents, the kept ones. `--ceiling` sets how much machine text there is. With --unseen the crawl is built of
texts alone that the embedded detector was not trained on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import UTC
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import yaml

from benchmarks.leak_false_positives import rows
from benchmarks.synthetic_share import held_out
from detectors.base import clopper_pearson
from detectors.measures import calibration_errors
from pipelines.job import load_job
from pipelines.provenance import fusion
from pipelines.provenance.hidden import hidden_characters
from pipelines.provenance.leaks import leaked_phrases
from pipelines.run import run

_PLACES = ("reserve", "quarantine", "review")
_CUTOFF = "2022-11-30"  # the job's default, and the crawl's
_LEAST = 0.001


class Documents(NamedTuple):
    """The kept documents of a run: (n,) each."""

    machine: npt.NDArray[np.bool_]
    after: npt.NDArray[np.bool_]  # captured after the cut-off
    month: npt.NDArray[np.str_]
    detector: npt.NDArray[np.float64]  # NaN where it does not speak
    posterior: npt.NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["crawl", "kinds", "terms"])
    parser.add_argument("--text", default="../shared/text", help="labelled text sets")
    parser.add_argument("--docs", type=int, default=20000)
    parser.add_argument("--ceiling", type=float, default=0.6, help="the share that the steepest host class tends to")
    parser.add_argument("--unseen", action="store_true", help="only texts that the detector was not trained on")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.what == "crawl":
        with tempfile.TemporaryDirectory() as scratch:
            crawl(Path(scratch), options)
    elif options.what == "kinds":
        kinds(sorted(Path(options.text).glob("*.parquet")))
    else:
        print("\n".join(terms()))


def crawl(scratch: Path, options: argparse.Namespace) -> None:
    text = held_out(Path(options.text), scratch / "text") if options.unseen else Path(options.text)
    tool = Path(options.text).parent / "tools" / "build_crawl.py"
    command = [sys.executable, str(tool), "--text", str(text), "--out", f"{scratch}/crawl", "--format", "warc"]
    command += ["--docs", str(options.docs), "--ceiling", str(options.ceiling), "--seed", str(options.seed)]
    subprocess.run(command, check=True)
    truth = pq.read_table(scratch / "crawl" / "truth.parquet").to_pylist()
    machine = {row["url"]: row["label"] == "machine" for row in truth}
    output = scratch / "out"
    runs: dict[str, Documents] = {}

    def add(name: str, prior: Any) -> Documents:
        settings = {"input": [f"{scratch}/crawl/*.warc.gz"], "output": str(output), "keep_work": True}
        run(load_job(None, settings | {"fusion": {"prior": prior}}), overwrite=True)
        runs[name] = documents(output, machine)
        return runs[name]

    first = add("the package's", None)
    add("the first run's estimates", str(output))
    add("flat, the true share", {"2022-11": float(first.machine[first.after].mean())})
    add("true monthly shares", monthly(first))
    report(runs)


def monthly(found: Documents) -> dict[str, float]:
    """The machine share among the kept documents of each month from the cut-off's on, within what a prior may be."""
    months = sorted(set(found.month[found.after]))
    shares = [found.machine[found.after & (found.month == month)].mean() for month in months]
    return {str(month): float(np.clip(share, _LEAST, 1 - _LEAST)) for month, share in zip(months, shares, strict=True)}


def documents(output: Path, machine: dict[str, bool]) -> Documents:
    columns = ["url", "captured_at", "machine_probability", "posterior"]
    found = [
        row
        for place in _PLACES
        for part in sorted((output / place).glob("part-*.parquet"))
        for row in pq.read_table(part, columns=columns).to_pylist()
    ]
    nan = float("nan")
    days = np.array([row["captured_at"].astimezone(UTC).strftime("%Y-%m-%d") for row in found])
    return Documents(
        np.array([machine[row["url"]] for row in found]),
        days >= _CUTOFF,
        np.array([day[:7] for day in days.tolist()]),
        np.array([nan if row["machine_probability"] is None else row["machine_probability"] for row in found]),
        np.array([nan if row["posterior"] is None else row["posterior"] for row in found]),
    )


def report(runs: dict[str, Documents]) -> None:
    first = next(iter(runs.values()))
    spoken = ~np.isnan(first.detector)
    for title, rows_of in (
        ("after the cut-off, the detector spoke", first.after & spoken),
        ("after the cut-off, all", first.after),
        ("all", np.ones(len(spoken), bool)),
    ):
        machine = first.machine[rows_of]
        print(f"\n{title}: {len(machine):,} documents, {machine.mean():.1%} of them machine text")
        print(f"{'':<44}{'mean':>7}{'Brier':>8}{'ECE':>8}{'ECE, equal mass':>17}")
        share = np.full(len(machine), machine.mean())
        line("the true share, for every document", share, machine)
        if spoken[rows_of].all():
            line("machine_probability (even odds)", first.detector[rows_of], machine)
        for name, run_of in runs.items():
            line(f"posterior, prior: {name}", run_of.posterior[rows_of], machine)


def line(name: str, probability: npt.NDArray[np.float64], machine: npt.NDArray[np.bool_]) -> None:
    errors = calibration_errors(probability, machine, np.ones(len(machine)))
    values = f"{errors.brier:>8.4f}{errors.equal_width:>8.4f}{errors.equal_mass:>17.4f}"
    print(f"{name:<44}{probability.mean():>7.1%}{values}")


def kinds(sets: list[Path]) -> None:
    """Counts, by label, the texts in which each kind of leak and of hidden characters is found."""
    texts: Counter[str] = Counter()
    hits: Counter[tuple[str, str]] = Counter()
    for path in sets:
        for text, label, _, _ in rows(path):
            texts[label] += 1
            found = {finding.kind for finding in (*leaked_phrases(text), *hidden_characters(text))}
            hits.update((label, kind) for kind in found)
    print(f"{'':<28}{'human':>9}{'machine':>9}   of {texts['human']:,} human and {texts['machine']:,} machine texts")
    for kind, entry in _entries().items():
        if "human" in entry:
            print(f"{kind:<28}{hits['human', kind]:>9,}{hits['machine', kind]:>9,}")


def terms() -> list[str]:
    """Every term with what it rests on, in Markdown."""
    model = fusion.load_model()
    lines = ["| kind | family | term | rests on |", "|---|---|---:|---|"]
    for kind, entry in _entries().items():
        family, term = model.kinds[kind]
        why = entry["why"]
        if "human" in entry:
            hits, texts = entry["human"]
            rate = entry.get("assumed_rate")
            most = clopper_pearson(hits, texts)[1]
            of_machine = f"{rate:.2%} assumed" if rate else "{:,} of {:,}".format(*entry["machine"])
            why = f"{hits} of {texts:,} human texts (at most {most:.3%}), machine: {of_machine}"
        shown = "computed" if entry.get("computed") else f"{term:+.2f}"
        lines.append(f"| `{kind}` | {family} | {shown} | {why} |")
    return lines


def _entries() -> dict[str, dict[str, Any]]:
    text = Path(fusion.__file__).with_name("fusion.yaml").read_text("utf-8")
    entries: dict[str, dict[str, Any]] = yaml.safe_load(text)["kinds"]
    return entries


if __name__ == "__main__":
    main()

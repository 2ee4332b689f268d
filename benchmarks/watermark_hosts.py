"""What whole hosts tell where no document does: short, weakly marked documents among a crawl of human ones.

    python -m benchmarks.watermark_hosts --model DIR --text ../shared/text --cache texts/

A local model continues human texts under publicly known keys, weakly: hosts of 5, 10 and 20 documents of 25, 50 and
100 tokens each. They go into a crawl of human documents on made-up hosts, and all of it through the project's own
steps: `staged_marks`, `find_sites`, e-BH over documents and over sites, `marks_evidence`. The registry holds eight
public keys, so that every p-value is paid for eight times. The tables are made with the exact nulls alone, and again
with nulls that were measured on human texts that are not in the crawl.

Last, e-BH on simulated hosts: what share of the discoveries is false, for independent tests and for tests of which
hundreds rise and fall together.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from scipy import stats

from benchmarks.local_model import human_texts
from benchmarks.watermark_recall import WRITINGS, Writer, Writing, print_table
from pipelines.marks.apply import FOUND, Findings, marks_evidence
from pipelines.marks.sites import Sites, document_e_values, find_sites
from pipelines.marks.staged import matrix, staged_marks
from watermark.calibration import Options as NullOptions
from watermark.fitting import fit_nulls
from watermark.generate import Options
from watermark.many_tests import benjamini_hochberg, e_bh, log_e_value
from watermark.scan import Scanner

LENGTHS = (25, 50, 100)
SIZES = (5, 10, 20)
_BATCH = 512  # texts scanned at once
_CHARACTERS = 3000  # of a human document
_LARGEST = 100  # documents of a human host


class Weak(NamedTuple):
    """A way to mark that leaves a short document far from significant."""

    writing: Writing
    temperature: float

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.writing.name}, temperature {self.temperature:g}"


WEAK = (Weak(Writing("kgw-transformers-lefthash", 1.0), 0.7), Weak(Writing("synthid-deepmind-default"), 0.3))


class Row(NamedTuple):
    """What was found of some marked hosts in a crawl; shares of 1, and counts of what is false."""

    by_document: float
    hosts: float
    through_host: float
    beside: float
    false_documents: int
    false_hosts: int


@dataclass(frozen=True)
class Crawl:
    """Documents' marks, and the tests of the sites they make."""

    marks: pa.Table
    sites: Sites

    @classmethod
    def of(cls, scanner: Scanner, hosts: Sequence[str], texts: Sequence[str], level: float) -> Crawl:
        """Scans documents, as the staging pipeline does, and tests their hosts."""
        urls = [f"https://{host}/{number}" for number, host in enumerate(hosts)]
        documents = pa.table({"host": list(hosts), "url": urls, "text": pa.array(texts, pa.large_string())})
        batches = documents.to_batches(max_chunksize=_BATCH)
        marks = pa.Table.from_batches([staged_marks(scanner, batch, samples=True) for batch in batches])
        return cls(marks, find_sites(marks, scanner, level))

    def __add__(self, other: Crawl) -> Crawl:
        """Both; no host may be in both."""
        candidates = pa.concat_tables([self.sites.candidates, other.sites.candidates])
        sites = Sites(self.sites.tested + other.sites.tested, candidates)
        return Crawl(pa.concat_tables([self.marks, other.marks]), sites)

    def findings(self, scanner: Scanner, level: float) -> Findings:
        """The correction over all documents and over all sites."""
        least = np.array([mark.entry.min_tokens for mark in scanner.marks])
        log_e, tested = document_e_values(self.marks, least)
        table = self.sites.candidates
        of_site = table.group_by(["host", "section"]).aggregate([("site_log_e", "max")])["site_log_e_max"].to_numpy()
        threshold = e_bh(of_site, level, self.sites.tested)
        found = table.filter(pc.greater_equal(table["site_log_e"], threshold))
        threshold = e_bh(log_e[tested], level)
        return Findings(scanner.public_marks, level, int(tested.sum()), threshold, self.sites.tested, found)


def host_names(random: np.random.Generator, documents: int) -> list[str]:
    """Hosts of human documents: many small ones, some large."""
    names: list[str] = []
    while len(names) < documents:
        names += [f"human-{len(names)}.example"] * min(_LARGEST, 1 + int(random.pareto(1.0)))
    return names[:documents]


def row(scanner: Scanner, human: Crawl, marked: Crawl, level: float) -> Row:
    """What is found of the marked hosts, and what is found wrongly."""
    crawl = human + marked
    findings = crawl.findings(scanner, level)
    log_e, _ = document_e_values(crawl.marks, findings.least)
    by_document = log_e >= findings.document_log_e
    evidence = marks_evidence(crawl.marks, findings)
    kinds: npt.NDArray[np.str_] = np.full(len(evidence), "", "U32")
    of_row = np.repeat(np.arange(len(evidence)), pc.list_value_length(evidence).to_numpy(zero_copy_only=False))
    kinds[of_row] = pc.struct_field(evidence.flatten(), "kind").to_pylist()
    found = kinds == FOUND
    beside = kinds == "watermark_site"
    true = np.arange(len(kinds)) >= human.marks.num_rows
    planted = set(marked.marks["host"].to_pylist())
    hosts = set(findings.sites["host"].to_pylist())
    return Row(
        float(by_document[true].mean()),
        len(hosts & planted) / len(planted),
        float((found & ~by_document)[true].mean()),
        float(beside[true].mean()),
        int(found[~true].sum()),
        len(hosts - planted),
    )


def marked_hosts(writer: Writer, texts: Sequence[Sequence[int]], size: int, length: int) -> tuple[list[str], list[str]]:
    """Host names and texts of hosts of ``size`` documents, out of the hosts of the largest size."""
    most = max(SIZES)
    rows = [at for at in range(len(texts)) if at % most < size]
    return [f"marked-{at // most}.example" for at in rows], [writer.decode(texts[at][:length]) for at in rows]


def tables(
    writer: Writer, scanner: Scanner, human: Crawl, prompts: Sequence[list[int]], level: float, seed: int
) -> Iterator[tuple[str, list[list[str]]]]:
    """A table for each weak mark, with its title."""
    for weak in WEAK:
        sampling = Options(
            max_new_tokens=max(LENGTHS), min_new_tokens=max(LENGTHS), temperature=weak.temperature, batch=64, seed=seed
        )
        plain = writer.texts(None, prompts, sampling)
        entropy = writer.entropy(prompts, plain, weak.temperature)
        strength = weak.writing.strength or 0.0
        texts = [text.tokens for text in writer.texts(weak.writing.use, prompts, replace(sampling, strength=strength))]
        key = [mark.entry.id for mark in scanner.marks].index(weak.writing.use)
        table = []
        for length in LENGTHS:
            for size in SIZES:
                hosts, documents = marked_hosts(writer, texts, size, length)
                marked = Crawl.of(scanner, hosts, documents, level)
                log10_p = matrix(marked.marks["log_p"], len(scanner.marks))[:, key] / math.log(10)
                found = row(scanner, human, marked, level)
                shares = [f"{100 * share:.0f} %" for share in found[:4]]
                own = [f"{np.median(log10_p):.1f}", f"{np.quantile(log10_p, 0.05):.1f}"]
                table.append([str(length), str(size), *own, *shares, *map(str, found[4:])])
        yield f"{weak.name}: {entropy:.2f} nats of entropy a token, {len(prompts) // max(SIZES)} marked hosts", table


COLUMNS = (
    "tokens a document",
    "documents a host",
    "median log10 p of a document",
    "lowest 5 %",
    "documents found alone",
    "hosts found",
    "further documents found in found hosts",
    "documents only beside",
    "false documents",
    "false hosts",
)


class Rates(NamedTuple):
    """Means over simulated crawls."""

    false_discoveries: float
    power: float


def simulate(
    random: np.random.Generator, level: float, share: float, shift: float, correlation: float, crawls: int, hosts: int
) -> tuple[Rates, Rates]:
    """Realised false discovery rate and power of e-BH and of Benjamini-Hochberg on hosts' p-values.

    Args:
        random: source of the draws.
        level: the rate to hold.
        share: of the hosts that are marked.
        shift: of a marked host's standard score.
        correlation: between the scores of hosts of one group; there are ten groups.
        crawls: how many are drawn.
        hosts: in each.
    """
    results: list[list[tuple[float, float]]] = [[], []]
    marked = np.arange(hosts) < share * hosts
    for _ in range(crawls):
        common = random.standard_normal(10)[random.integers(10, size=hosts)]
        z = math.sqrt(correlation) * common + math.sqrt(1 - correlation) * random.standard_normal(hosts)
        log_p = stats.norm.logsf(z + shift * marked)
        log_e = log_e_value(log_p)
        found = (log_e >= e_bh(log_e, level), log_p <= benjamini_hochberg(log_p, level))
        for result, which in zip(results, found, strict=True):
            result.append(
                (np.sum(which & ~marked) / max(1, which.sum()), np.sum(which & marked) / max(1, marked.sum()))
            )
    means = [np.mean(result, axis=0) for result in results]
    return Rates(*means[0].tolist()), Rates(*means[1].tolist())


def print_simulation(level: float, seed: int, crawls: int = 200, hosts: int = 10_000) -> None:
    """The table of simulated crawls."""
    table = []
    for share in (0.0, 0.01):
        for correlation in (0.0, 0.5, 0.95):
            random = np.random.default_rng(seed)
            e, p = simulate(random, level, share, 6.0, correlation, crawls, hosts)
            cells = [f"{100 * value:.2f} %" for value in (e.false_discoveries, e.power, p.false_discoveries, p.power)]
            table.append([f"{100 * share:g} %", f"{correlation:g}", *cells])
    columns = ("marked", "correlation", "e-BH: false discoveries", "power", "BH: false discoveries", "power")
    title = f"{crawls} simulated crawls of {hosts} hosts, level {100 * level:g} %, marked hosts at z = 6 + noise"
    print_table(title, columns, table)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a causal language model")
    parser.add_argument("--text", type=Path, required=True, help="folder of Parquet files with text, label, language")
    parser.add_argument("--cache", type=Path, required=True, help="folder in which generated texts are kept")
    parser.add_argument("--documents", type=int, default=4000, help="human documents in the crawl")
    parser.add_argument("--null-documents", type=int, default=4000, help="human documents to measure nulls on")
    parser.add_argument("--hosts", type=int, default=6, help="marked hosts of each size")
    parser.add_argument("--level", type=float, default=0.01)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)

    print_simulation(options.level, options.seed)
    writer = Writer.load(options.model, options.cache)
    trained_on, held_out = human_texts(options.text)
    prompts = writer.prompts(held_out, options.hosts * max(SIZES))
    texts = [text[:_CHARACTERS] for text in trained_on[: options.documents + options.null_documents]]
    crawl, others = texts[: options.documents], texts[options.documents :]
    scanner = writer.scanner(*dict.fromkeys(writing.use for writing in WRITINGS))
    fitted = fit_nulls(scanner, others, [str(number) for number in range(len(others))], NullOptions())
    hosts = host_names(np.random.default_rng(options.seed), len(crawl))
    for about, which in (
        ("exact nulls", scanner),
        ("measured nulls", scanner.with_nulls([fit.null for fit in fitted])),
    ):
        human = Crawl.of(which, hosts, crawl, options.level)
        print(f"\n{about}: {len(crawl)} human documents on {len(set(hosts))} hosts, {human.sites.tested} sites tested")
        for title, table in tables(writer, which, human, prompts, options.level, options.seed):
            print_table(f"{title}; {about}", COLUMNS, table)


if __name__ == "__main__":
    main()

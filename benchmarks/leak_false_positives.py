"""How often each leak signal fires on text that people wrote before the cut-off, and on machine text.

    python -m benchmarks.leak_false_positives --text ../shared/text --pages ../shared/html_gold/html
    python -m benchmarks.leak_false_positives --text ../shared/text --write docs/provenance.md

"Human" counts the texts that can be dated before 2022-11-30: the sets and domains in DATED, whose sources were
published before it. Human rows of other sets are mostly older, too, but carry no date, and are counted apart. Pages are
looked at in both layers, markup and all their visible text. The bound is the upper end of the two-sided 95 %
Clopper-Pearson interval over human texts and pages. A signal of a strong kind has to stay below LIMIT; the exit code is
1 where one does not.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from pipelines.ingest.extraction import extract_text
from pipelines.ingest.html import decode_text
from pipelines.ingest.options import Extraction
from pipelines.provenance.leaks import leaked_markup, leaked_phrases
from pipelines.provenance.locations import read_location
from pipelines.provenance.policy import load_policy
from pipelines.provenance.signals import Leak, load_signals
from pipelines.records import Evidence, Verdict
from pipelines.statistics.intervals import clopper_pearson

LIMIT = 5e-4
# Sets, and domains of sets, whose human texts were published before the cut-off; None for all domains.
DATED: dict[str, tuple[str, ...] | None] = {
    "human_pre2020": None,  # Gutenberg, Reuters-21578, Brown, film reviews, speeches
    "fastdetect": None,  # XSum (2018), SQuAD (2016), WritingPrompts (2018), PubMedQA (2019)
    "glimpse": ("xsum", "writing", "pubmed"),
    "imbd": ("xsum", "squad", "writing", "pubmed"),
    "outfox": None,  # essays of a competition of 2021 and 2022
    "hc3zh": ("nlpcc_dbqa",),  # a shared task of 2016
}
_MARKS = ("<!-- leak signals: begin -->", "<!-- leak signals: end -->")


class Group(NamedTuple):
    """Documents looked at, by language, and on how many of them each signal fired."""

    documents: Counter[str]
    hits: Counter[str]

    def add(self, language: str, evidence: Iterable[Evidence]) -> None:
        """Counts one document and what was found in it."""
        self.documents[language] += 1
        self.hits.update({signal for finding in evidence if (signal := signal_of(finding))})


class Measurement(NamedTuple):
    """The groups: dated human texts, human texts without a date, pages, machine texts."""

    human: Group
    undated: Group
    pages: Group
    machine: Group


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", default="../shared/text", help="folder of labelled text sets")
    parser.add_argument("--pages", default="../shared/html_gold/html", help="folder of gzipped pages of 2019")
    parser.add_argument("--write", help="file whose table is replaced")
    options = parser.parse_args()
    measured = measure(sorted(Path(options.text).glob("*.parquet")), sorted(Path(options.pages).glob("*.gz")))
    lines = table(measured)
    print("\n".join(lines))
    if options.write:
        path = Path(options.write)
        before, rest = path.read_text("utf-8").split(_MARKS[0])
        after = rest.split(_MARKS[1])[1]
        path.write_text("\n".join([before + _MARKS[0], *lines, _MARKS[1] + after]), "utf-8")
    over = too_often(measured)
    for signal in over:
        print(f"{signal.id}: its kind, {signal.kind}, is strong evidence, but its bound is over {LIMIT:.2%}")
    return 1 if over else 0


def measure(sets: Iterable[Path], pages: Iterable[Path]) -> Measurement:
    """Runs the leak checks over labelled sets and over pages."""
    measured = Measurement(*(Group(Counter(), Counter()) for _ in Measurement._fields))
    for path in sets:
        for text, label, domain, language in rows(path):
            group = measured.machine if label == "machine" else measured.undated
            if label == "human" and path.stem in DATED:
                domains = DATED[path.stem]
                group = measured.human if domains is None or domain in domains else group
            group.add(language, leaked_phrases(text))
    for path in pages:
        html = decode_text(gzip.decompress(path.read_bytes()))
        measured.pages.add(
            "", [*leaked_markup(html), *leaked_phrases(extract_text(html, Extraction(main_content=False)))]
        )
    return measured


def rows(path: Path) -> Iterator[tuple[str, str, str, str]]:
    names = ("text", "label", "domain", "language")
    for batch in pq.ParquetFile(path).iter_batches(4096, columns=names):
        yield from zip(*(batch.column(name).to_pylist() for name in names), strict=True)


def signal_of(finding: Evidence) -> str | None:
    """The signal that a finding is of; None for what stands between quotation marks, which the policy does not use."""
    location = read_location(finding.detail or "")
    return None if location is None or finding.kind == "chatbot_phrase_quoted" else location.what


def strong_kinds() -> frozenset[str]:
    """The kinds that alone make a document ``declared`` in the default policy."""
    declared = [rule.when for rule in load_policy(None).rules if rule.verdict is Verdict.DECLARED]
    return frozenset(kind for when in declared for kind in when.evidence_any or ())


def bound(measured: Measurement, signal: Leak) -> float:
    hits = measured.human.hits[signal.id] + measured.pages.hits[signal.id]
    looked_at = measured.human.documents.total() + measured.pages.documents.total()
    return float(clopper_pearson(hits, looked_at)[1])


def too_often(measured: Measurement) -> list[Leak]:
    """The signals of strong kinds whose bound is over the limit."""
    strong = strong_kinds()
    return [s for s in load_signals().leaks if s.kind in strong and bound(measured, s) > LIMIT]


def table(measured: Measurement) -> list[str]:
    human, undated, pages, machine = (group.documents.total() for group in measured)
    lines = [
        f"Looked at: {human:,} human texts from before the cut-off, {pages} pages of 2019, {undated:,} human texts "
        f"without a date and {machine:,} machine texts. Human texts by language, those without a date in brackets: "
        + ", ".join(
            f"{language} {measured.human.documents[language]:,} ({measured.undated.documents[language]:,})"
            for language in sorted(measured.human.documents | measured.undated.documents)
        )
        + ".",
        "",
        "| signal | kind | human | pages | bound | in its language | bound there | undated | machine |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for signal in load_signals().leaks:
        hits = [group.hits[signal.id] for group in measured]
        own = measured.human.documents[signal.language] if signal.language else human
        there = f"{float(clopper_pearson(hits[0], own)[1]):.3%}" if own else "not measured"
        lines.append(
            f"| `{signal.id}` | `{signal.kind}` | {hits[0]} | {hits[2]} | {bound(measured, signal):.3%} "
            f"| {own:,} | {there} | {hits[1]} | {hits[3]} |"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())

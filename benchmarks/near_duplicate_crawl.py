"""Precision and recall of near-duplicates against a crawl whose copies are known.

    python ../shared/tools/build_crawl.py --text ../shared/text --out crawl --docs 20000 --format warc
    reserve run --input 'crawl/*.warc.gz' --output out
    python -m benchmarks.near_duplicate_crawl --crawl crawl --output out

The tool writes beside its shards which record was copied from which, and how. With ``--output`` the clusters are those
of a finished run, without it those that the same engine finds in the shards' texts. A pair of copies can be missed for
two reasons, which are told apart by the exact similarity of the two: below the threshold it is no near-duplicate by
definition, from there on it is an error.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from benchmarks.near_duplicate_quality import shingles, similarity
from pipelines import files
from pipelines.ingest.options import Ingest
from pipelines.ingest.reader import read_shard
from pipelines.neardup.options import NearDup
from tests.neardup.support import doc, find

_LISTED = 20
_KINDS = ("exact", "near")


class Page(NamedTuple):
    """A document as the job reads it."""

    captured_at: datetime | None
    text: str


Pair = tuple[str, str]  # of URLs, in order


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crawl", required=True, help="a folder that build_crawl.py has written")
    parser.add_argument("--output", help="the output of `reserve run` over it; default: find the clusters here")
    arguments = parser.parse_args()
    options = NearDup()
    pages = read_pages(Path(arguments.crawl))
    clusters = clusters_of_run(Path(arguments.output)) if arguments.output else find_clusters(pages, options)
    truth = read_families(Path(arguments.crawl))
    families = {url: family for url, family in truth.items() if url in pages}
    print(f"{len(truth)} records, {len(pages)} documents")
    report(pages, families, {url: clusters[url] for url in families}, options)


def read_pages(folder: Path) -> dict[str, Page]:
    """The documents of all shards by URL, their text extracted as the job extracts it."""
    pages = {}
    for shard in sorted(map(str, folder.glob("crawl-*"))):
        with files.open_read(shard) as stream:
            for part in read_shard(stream, shard, Ingest()):
                rows = part.documents.select(["url", "captured_at", "text"]).to_pylist()
                pages.update({row["url"]: Page(row["captured_at"], row["text"]) for row in rows})
    return pages


def read_families(folder: Path) -> dict[str, str]:
    """The original of each record, by URL; an original is its own."""
    rows = pq.read_table(folder / "truth.parquet", columns=["url", "copy_of"]).to_pylist()
    return {row["url"]: row["copy_of"] or row["url"] for row in rows}


def find_clusters(pages: Mapping[str, Page], options: NearDup) -> dict[str, Hashable]:
    """The cluster of each document, by URL."""
    docs = [doc(url, page.text)._replace(captured_at=page.captured_at) for url, page in pages.items()]
    with tempfile.TemporaryDirectory() as scratch:
        found = find(Path(scratch), docs, options, shards=8)
    return {url: row["cluster_id"] if row else url for url, row in zip(pages, found, strict=True)}


def clusters_of_run(output: Path) -> dict[str, Hashable]:
    """The cluster of each document that a run wrote: the document that was kept."""
    clusters: dict[str, Hashable] = {}
    for place in ("reserve", "quarantine", "review"):
        for part in sorted((output / place).glob("part-*.parquet")):
            clusters.update({row["url"]: row["doc_id"] for row in rows_of(part, ["url", "doc_id"])})
    for part in sorted((output / "duplicates").glob("*.parquet")):
        clusters.update({row["url"]: row["kept_doc_id"] for row in rows_of(part, ["url", "kept_doc_id"])})
    return clusters


def rows_of(path: Path, columns: list[str]) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = pq.read_table(path, columns=columns).to_pylist()
    return rows


def report(
    pages: Mapping[str, Page], families: Mapping[str, str], clusters: Mapping[str, Hashable], options: NearDup
) -> None:
    """Prints precision and recall of pairs and clusters, and what the errors are."""
    true, joined = pairs_of(families), pairs_of(clusters)
    sets = {url: shingles(pages[url].text, options.shingle) for pair in true | joined for url in pair}
    alike = {pair: similarity(sets[pair[0]], sets[pair[1]]) for pair in true | joined}
    kind = {pair: _KINDS[pages[pair[0]].text != pages[pair[1]].text] for pair in alike}

    print("\npairs       planted   found    recall   planted from threshold on   found    recall   joined   precision")
    for name in (*_KINDS, "all"):
        own = {pair for pair in alike if name in (kind[pair], "all")}
        close = {pair for pair in own & true if alike[pair] >= options.threshold}
        print(
            f"{name:<12}{_recall(own & true, joined)}{_recall(close, joined, 28)}"
            f"{len(own & joined):>9}{_share(len(own & joined & true), len(own & joined)):>12}"
        )
    print_clusters(families, clusters)
    missed, wrong = sorted(true - joined), sorted(joined - true)
    print_errors(
        f"planted pairs of similarity {options.threshold} and more that were missed", missed, alike, options, 1
    )
    print_errors("planted pairs below the threshold that were left apart", missed, alike, options, -1)
    print_errors("pairs joined that were not planted, and are alike", wrong, alike, options, 1)
    print_errors("pairs joined that were not planted, by a chain", wrong, alike, options, -1)


def pairs_of(groups: Mapping[str, Hashable]) -> set[Pair]:
    """All pairs of URLs in one group."""
    members: dict[Hashable, list[str]] = {}
    for url in sorted(groups):
        members.setdefault(groups[url], []).append(url)
    return {pair for urls in members.values() for pair in combinations(urls, 2)}


def print_clusters(families: Mapping[str, str], clusters: Mapping[str, Hashable]) -> None:
    """Whole groups, and what matters in the end: copies removed that are copies."""
    true, found = partition(families), partition(clusters)
    whole = len(true & found)
    print(f"\nclusters: {len(found)} found, {len(true)} planted, {whole} the same to the last document")
    print(f"  precision {_share(whole, len(found))}, recall {_share(whole, len(true))}")
    to_remove, removed = sum(len(group) - 1 for group in true), sum(len(group) - 1 for group in found)
    rightly = sum(len(group) - len({families[url] for url in group}) for group in found)
    print(f"documents removed: {removed}, of which {rightly} are copies of a kept one; {to_remove} copies were planted")
    print(f"  precision {_share(rightly, removed)}, recall {_share(rightly, to_remove)}")


def partition(groups: Mapping[str, Hashable]) -> set[frozenset[str]]:
    """The groups of more than one document."""
    members: dict[Hashable, set[str]] = {}
    for url, group in groups.items():
        members.setdefault(group, set()).add(url)
    return {frozenset(urls) for urls in members.values() if len(urls) > 1}


def print_errors(title: str, pairs: Sequence[Pair], alike: Mapping[Pair, float], options: NearDup, side: int) -> None:
    """How many of the pairs on one side of the threshold there are, and the nearest to it."""
    own = [pair for pair in pairs if (alike[pair] >= options.threshold) == (side > 0)]
    print(f"\n{title}: {len(own)}")
    spread = Counter(int(alike[pair] * 20) / 20 for pair in own)
    for low in sorted(spread):
        print(f"  {low:.2f} - {low + 0.05:.2f}: {spread[low]}")
    for pair in sorted(own, key=lambda pair: (abs(alike[pair] - options.threshold), pair))[
        : _LISTED if side > 0 else 0
    ]:
        print(f"  {alike[pair]:.4f}  {pair[0]}  {pair[1]}")


def _recall(wanted: set[Pair], joined: set[Pair], width: int = 7) -> str:
    return f"{len(wanted):>{width}}{len(wanted & joined):>8}{_share(len(wanted & joined), len(wanted)):>10}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.4f}" if whole else "-"


if __name__ == "__main__":
    main()

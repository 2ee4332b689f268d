"""Where a run keeps its work and puts its output: the names of all files under the output folder."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from pipelines import files
from pipelines.records import Place

WORK = ".work"
DOCUMENT_PLACES = (Place.RESERVE, Place.QUARANTINE, Place.REVIEW)
PLACES = (*DOCUMENT_PLACES, Place.DUPLICATES, Place.REJECTS)


class Staged(NamedTuple):
    """The files that `inspect`, `cluster` and what lies between them and `settle` keep for one part of a shard."""

    documents: str
    signatures: str
    rejects: str
    clusters: str
    paragraphs: str
    recurring: str
    marks: str
    marker: str  # written last by inspect: the part is whole


class Layout(NamedTuple):
    """Paths below one output folder, on any filesystem that Beam knows."""

    output: str

    @property
    def work(self) -> str:
        """The folder of everything that a finished run no longer needs."""
        return files.join(self.output, WORK)

    def staged(self, shard: str, begin: int) -> Staged:
        """The files of the part of a shard that begins at a byte; the folder is a digest, since names hold anything."""
        key = hashlib.sha256(f"{begin}/{shard}".encode("utf-8", "surrogateescape")).hexdigest()[:24]
        staging, clusters = files.join(self.work, "staging", key), files.join(self.work, "clusters", key)
        return Staged(
            documents=files.join(staging, "documents.parquet"),
            signatures=files.join(staging, "signatures.parquet"),
            rejects=files.join(staging, "rejects.parquet"),
            clusters=f"{clusters}.parquet",
            paragraphs=files.join(staging, "paragraphs.parquet"),
            recurring=files.join(self.work, "repeats", f"{key}.parquet"),
            marks=files.join(staging, "marks.parquet"),
            marker=files.join(staging, "whole.json"),
        )

    @property
    def clustered(self) -> str:
        """The marker that cluster writes last."""
        return files.join(self.work, "clusters", "whole.json")

    @property
    def repeats_counted(self) -> str:
        """The marker that the count of repeated paragraphs writes last."""
        return files.join(self.work, "repeats", "whole.json")

    @property
    def repeats_largest(self) -> str:
        """The repeated paragraphs with the most bytes, of all shards."""
        return files.join(self.work, "repeats", "largest.parquet")

    @property
    def marks_corrected(self) -> str:
        """The marker of the watermark tests' correction over the crawl."""
        return files.join(self.work, "marks", "whole.json")

    @property
    def marks_found(self) -> str:
        """What that correction found."""
        return files.join(self.work, "marks", "found.parquet")

    @property
    def dated_counted(self) -> str:
        """The marker of the count of documents that are human by date."""
        return files.join(self.work, "dated", "whole.json")

    @property
    def dated_counts(self) -> str:
        """That count."""
        return files.join(self.work, "dated", "counts.parquet")

    def part(self, place: Place, number: int) -> str:
        """One output file; the same number in every folder holds the records of the same shards."""
        return files.join(self.output, place.value, f"part-{number:05d}.parquet")

    def settled(self, number: int) -> str:
        """The marker of one part that settle has written, with what it counted."""
        return files.join(self.work, "settled", f"part-{number:05d}.json")

    def tally(self, kind: str, number: int) -> str:
        """The counts of one part, which merge into the statistics."""
        return files.join(self.work, "settled", f"part-{number:05d}.{kind}.parquet")

    def entries(self, number: int) -> str:
        """The entries of one part's documents, before they become leaves of the seal."""
        return files.join(self.work, "settled", f"part-{number:05d}.entries")

    def name(self, path: str) -> str:
        """A path below the output folder as the manifest writes it: relative, with slashes."""
        return path[len(self.output) :].lstrip("/")

    @property
    def seal(self) -> str:
        """The folder of the seal: tiles, checkpoint, manifest, public keys, time stamps."""
        return files.join(self.output, "seal")

    def statistics(self, name: str) -> str:
        """One table of the statistics."""
        return files.join(self.output, "statistics", f"{name}.parquet")

    def index_part(self, number: int) -> str:
        """What later runs compare with: the signatures of one part's documents."""
        return files.join(self.output, "index", f"part-{number:05d}.parquet")

    @property
    def index_glob(self) -> str:
        """All parts of the index."""
        return files.join(self.output, "index", "part-*.parquet")

    @staticmethod
    def index_number(path: str) -> int:
        """The number of a part of the index."""
        return int(path.rsplit("part-", 1)[1].removesuffix(".parquet"))

    def archived(self, digest: str, number: int) -> str:
        """The cluster file of one part of an earlier output."""
        return files.join(self.work, "clusters", f"against-{digest[:24]}-{number:05d}.parquet")

    @property
    def superseded(self) -> str:
        """The documents that earlier outputs keep and one run over all shards would not."""
        return files.join(self.output, "superseded.parquet")

    @property
    def summary(self) -> str:
        """Written last: where it is, the output is whole."""
        return files.join(self.output, "summary.json")

    @property
    def report(self) -> str:
        """The report for people."""
        return files.join(self.output, "report.html")

    @property
    def card(self) -> str:
        """The data card."""
        return files.join(self.output, "README.md")

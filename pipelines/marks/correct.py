"""Correction over the crawl: the staged p-values of all shards in, one table of what was found out.

::

    marks of a shard ─┬▶ e-values of its documents that may count ─▶ e-BH over all documents ─┐
                      └▶ rows, by host ─▶ sites that may count ───▶ e-BH over all sites ──────┴▶ FOUND, one file

E-values need no independence: of documents that share a key, phrases and hosts, e-BH (Wang and Ramdas, "False discovery
rate control with e-values", 2022) keeps its rate all the same. Only e-values of at least 1 / level can ever count, so
that what travels to the one place that decides is some few bytes for each document that is marked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import files
from pipelines.marks.apply import Findings
from pipelines.marks.options import Watermarks
from pipelines.marks.sites import CANDIDATES, document_e_values, find_sites
from pipelines.marks.staged import marks_schema
from watermark.many_tests import Candidates, e_bh
from watermark.registry import Registry
from watermark.scan import Scanner

_RANGES = 64
_DOCUMENTS_A_RANGE = 20_000  # that one process holds: windows of 2.5 kB a tokenizer and 8 bytes a key


class CorrectMarks(beam.PTransform):  # type: ignore[misc]
    """Reads the staged marks of all shards and writes to ``path`` what :func:`findings_of` reads."""

    def __init__(
        self, staged: Sequence[str], registry: Registry, options: Watermarks, documents: int, path: str
    ) -> None:
        super().__init__()
        self._staged = sorted(staged)
        self._registry = registry
        self._options = options
        self._ranges = max(_RANGES, documents // _DOCUMENTS_A_RANGE)
        self._path = path

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Wires the steps."""
        shards = pipeline | "shards" >> beam.Create(self._staged) | "spread" >> beam.Reshuffle()
        documents = shards | "e-values of documents" >> beam.ParDo(_Documents(self._registry, self._options.level))
        parts = [documents]
        if self._options.sites:
            parts.append(
                shards
                | "rows by host" >> beam.ParDo(_ByHost(self._ranges))
                | "hosts together" >> beam.GroupByKey()
                | "test sites" >> beam.ParDo(_Sites(self._registry, self._options.level))
            )
        return (
            parts
            | "all" >> beam.Flatten()
            | "over the crawl" >> beam.CombineGlobally(_Together(self._options.level))
            | "write" >> beam.Map(_write, self._options.level, self._path)
        )


def findings_of(scanner: Scanner, options: Watermarks, path: str) -> Findings:
    """What :class:`CorrectMarks` wrote, for settling."""
    table = files.read_parquet(path)
    about = {name.decode(): value.decode() for name, value in table.schema.metadata.items()}
    return Findings(
        scanner.public_marks,
        options.level,
        int(about["documents"]),
        float(about["document_log_e"]),
        int(about["sites"]),
        table.replace_schema_metadata(None),
    )


class _Part(NamedTuple):
    """What merges: the tests of documents, and the tests and candidates (Arrow IPC) of sites."""

    documents: Candidates
    sites: int
    found: tuple[bytes, ...]


class _Documents(beam.DoFn):  # type: ignore[misc]
    """The path of a shard's marks → the tests of its documents."""

    def __init__(self, registry: Registry, level: float) -> None:
        self._least = np.array([mark.entry.min_tokens for mark in registry.marks])
        self._level = level

    def process(self, path: str) -> Iterator[_Part]:
        log_e, tested = document_e_values(files.read_parquet(path, ["log_p", "scored"]), self._least)
        yield _Part(Candidates.of(log_e[tested], self._level), 0, ())


class _ByHost(beam.DoFn):  # type: ignore[misc]
    """The path of a shard's marks → (range of hosts, its rows as Arrow IPC)."""

    def __init__(self, ranges: int) -> None:
        self._ranges = ranges

    def process(self, path: str) -> Iterator[tuple[int, bytes]]:
        table = files.read_parquet(path)
        hosts = table["host"].combine_chunks().dictionary_encode()
        if isinstance(hosts, pa.ChunkedArray):
            hosts = hosts.combine_chunks()
        ranges = np.array([_range(host, self._ranges) for host in hosts.dictionary.to_pylist()] + [-1])
        of_row = ranges[hosts.indices.fill_null(len(ranges) - 1).to_numpy(zero_copy_only=False)]
        order = np.argsort(of_row, kind="stable")
        numbers, starts = np.unique(of_row[order], return_index=True)
        for number, rows in zip(numbers, np.split(order, starts[1:]), strict=True):
            if number >= 0:
                yield int(number), _pack(table.take(pa.array(rows)))


class _Sites(beam.DoFn):  # type: ignore[misc]
    """(Range of hosts, rows) → the tests of its sites."""

    def __init__(self, registry: Registry, level: float) -> None:
        self._registry = registry
        self._level = level

    def setup(self) -> None:
        """Loads the tokenizers' keys, once a worker."""
        self._scanner = Scanner(self._registry)

    def process(self, group: tuple[int, Iterable[bytes]]) -> Iterator[_Part]:
        schema = marks_schema(len(self._scanner.families))
        rows = pa.concat_tables([schema.empty_table(), *(_unpack(part) for part in group[1])])
        found = find_sites(rows, self._scanner, self._level)
        tables = (_pack(found.candidates),) if found.candidates.num_rows else ()
        yield _Part(Candidates.of([], self._level), found.tested, tables)


class _Together(beam.CombineFn):  # type: ignore[misc]
    """Parts to one part."""

    def __init__(self, level: float) -> None:
        self._level = level

    def create_accumulator(self) -> _Part:
        return _Part(Candidates.of([], self._level), 0, ())

    def add_input(self, accumulator: _Part, part: _Part) -> _Part:
        return self.merge_accumulators([accumulator, part])

    def merge_accumulators(self, accumulators: Iterable[_Part]) -> _Part:
        first, *others = accumulators
        documents = first.documents.merge(*(part.documents for part in others))
        parts = (first, *others)
        return _Part(documents, sum(part.sites for part in parts), sum((part.found for part in parts), ()))

    def extract_output(self, accumulator: _Part) -> _Part:
        return accumulator


def _write(part: _Part, level: float, path: str) -> None:
    table = pa.concat_tables([CANDIDATES.empty_table(), *(_unpack(piece) for piece in part.found)])
    order = [("host", "ascending"), ("section", "ascending"), ("key", "ascending")]
    table = table.take(pc.sort_indices(table, order)).combine_chunks()
    # One e-value a site, however many keys speak for it.
    sites = table.group_by(["host", "section"]).aggregate([("site_log_e", "max")])["site_log_e_max"].to_numpy()
    least = e_bh(sites, level, part.sites)
    table = table.filter(pc.greater_equal(table["site_log_e"], least))
    documents = part.documents
    about = {
        "documents": str(documents.tests),
        "document_log_e": repr(documents.threshold()),
        "sites": str(part.sites),
    }
    files.write_parquet(path, table.replace_schema_metadata(about))


def _range(host: str | None, ranges: int) -> int:
    if host is None:
        return -1
    return int.from_bytes(hashlib.blake2b(host.encode(), digest_size=8).digest(), "big") % ranges


def _pack(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def _unpack(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(pa.py_buffer(data)).read_all()

"""Our reader of WARC and ARC against warcio and FastWARC: which records each finds, and how fast.

python -m benchmarks.readers --table ../shared/crawl/valid ../shared/crawl/odd     # exits 1 where we find fewer
python -m benchmarks.readers --table tests/assets/corrupt --markdown
python -m benchmarks.readers --table FOLDER ... --write docs/reader-comparison.md  # names and counts
python -m benchmarks.readers --speed                                               # on a crawl that it writes
python -m benchmarks.readers --speed 'crawl/*.warc.gz' --passes 7
"""

from __future__ import annotations

import argparse
import glob
import sys
import tempfile
from pathlib import Path

from benchmarks.reader_speed import report, write_crawl
from benchmarks.reader_table import Row, compare, markdown, plain, without_reasons

_INTRODUCTION = """# Readers compared

Which records warcio, FastWARC and our reader find in the same files: test data of the WARC libraries and samples of
crawls. Made by `python -m benchmarks.readers --table FOLDER ... --write FILE`, which also prints why counts differ.

- *warcio*: `ArchiveIterator(arc2warc=True)`, *FastWARC*: `ArchiveIterator(parse_http=False)`; each record is read to
  its end. `*`: it ended with an exception.
- *read*: records that we read. *refused*: those of them whose digest or length is not what the bytes give; the others
  do not check that. *in part*: records whose header we read, while the content is cut off or damaged; the others give
  some of these as if they were whole. *stretches*: damaged stretches without a record's header. *shard*: one reject
  for a file that holds no record, or is of no format that is read.
- All but plainly read records are rejects with their place, length and reason.

"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--table", nargs="+", metavar="PATH", help="files, or folders of them")
    what.add_argument("--speed", nargs="*", metavar="GLOB", help="shards; none: a crawl that is written for it")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--write", metavar="FILE", help="write the table without the reasons, as Markdown")
    parser.add_argument("--passes", type=int, default=5, help="over all shards; the median counts (default: 5)")
    parser.add_argument("--pages", type=int, default=800, help="in the crawl that is written (default: 800)")
    options = parser.parse_args()
    return _table(options) if options.table else _speed(options)


def _table(options: argparse.Namespace) -> int:
    paths = [path for name in options.table for path in (_files(Path(name)) if Path(name).is_dir() else [Path(name)])]
    rows = [compare(path) for path in paths]
    if options.write:
        Path(options.write).write_text(_INTRODUCTION + without_reasons(rows) + "\n" + _sum(rows) + "\n")
    print(markdown(rows) if options.markdown else plain(rows))
    print(f"\n{_sum(rows)}")
    fewer = [row for row in rows if row.is_fewer]
    for row in fewer:
        print(f"fewer than a peer: {row.name}", file=sys.stderr)
    return 1 if fewer else 0


def _sum(rows: list[Row]) -> str:
    warcio, fastwarc = (sum(row.peers[name].records for row in rows) for name in ("warcio", "FastWARC"))
    ours = f"ours {sum(row.read for row in rows)} and {sum(row.partial for row in rows)} in part"
    better = sum(row.read + row.partial > max(peer.records for peer in row.peers.values()) for row in rows)
    fewer = sum(row.is_fewer for row in rows)
    return (
        f"{len(rows)} files; records: warcio {warcio}, FastWARC {fastwarc}, {ours}. "
        f"More than both peers in {better} files, fewer than one in {fewer}."
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _speed(options: argparse.Namespace) -> int:
    paths = sorted(Path(path) for pattern in options.speed for path in glob.glob(pattern))
    if options.speed:
        if not paths:
            print(f"{' '.join(options.speed)}: no file", file=sys.stderr)
            return 2
        print(report(paths, options.passes))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        for path in write_crawl(Path(folder), options.pages):
            print(report([path], options.passes), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

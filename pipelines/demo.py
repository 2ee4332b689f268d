"""`reserve demo`: the main job on text that every machine has, with planted pages whose truth is known.

The pages are the documentation of the installed Python packages: long descriptions from their metadata, and docstrings.
They are written as WARC shards with made-up hosts and capture dates; some are captured twice with light edits. Planted
among them, after the cut-off: pages that declare themselves, pages with a C2PA text manifest, chatbot leaks, and pages
from a small generator that is fitted to the documentation on the spot, without and with a watermark.
"""

from __future__ import annotations

import email
import gzip
import hashlib
import html
import importlib.metadata
import inspect
import json
import random
import re
import shutil
import sysconfig
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from pipelines.demo_marks import FOLDER, demo_registry, marked_bodies
from pipelines.errors import UsageError
from pipelines.job import Job
from pipelines.layout import DOCUMENT_PLACES, PLACES
from pipelines.marks.options import Watermarks
from pipelines.records import Place
from pipelines.reserve.card import headline
from pipelines.run import run
from watermark.c2pa_text import wrap

_SHARDS = 8
_SHARD_NAME = re.compile(r"docs-\d{5}\.warc\.gz")
_GENERATED = "small generator"
_MIN_WORDS, _MAX_WORDS = 80, 1500
_NEAR_COPIES = 0.08
_PLANTED = 25  # pages of each planted kind
_FIRST, _LAST = datetime(2019, 1, 1, tzinfo=UTC), datetime(2026, 6, 30, tzinfo=UTC)
_AFTER = datetime(2023, 3, 1, tzinfo=UTC)
_LEAKS = (
    "As an AI language model, I do not have access to the source code, but here is how it usually works.",
    "I'm sorry, but as an AI language model I cannot run the examples below.",
    "See the parameters below. :contentReference[oaicite:0]{index=0}",
    "The module was reorganised in version 2. citeturn0search0",
)
_DOCSTRING = re.compile(r'^[ \t]*[rR]?"""(.*?)"""', re.MULTILINE | re.DOTALL)
_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


class Page(NamedTuple):
    """One page of the embedded crawl and what is known of it."""

    url: str
    captured_at: datetime
    body: str
    head: str
    truth: str  # "documentation", "near copy", or the kind that was planted


def demo(output: str, pages: int = 2000, workers: int = 0, overwrite: bool = False) -> str:
    """Builds the embedded crawl under `output`, runs the job on it, and compares; gives the text to print.

    Raises UsageError where `output` holds something already and `overwrite` is not set.
    """
    root = Path(output)
    if root.exists():
        if not overwrite:
            raise UsageError(f"output: {output} exists; name another --output, or --overwrite")
        if not _is_demo(root):
            raise UsageError(f"output: {output} exists and is no earlier demo; name another --output")
        shutil.rmtree(root)
    crawl = embedded_crawl(pages)
    (root / "crawl").mkdir(parents=True)
    registry = _plant_marked(crawl, root / FOLDER)
    for number in range(_SHARDS):
        shard = root / "crawl" / f"docs-{number:05d}.warc.gz"
        shard.write_bytes(b"".join(_record(page) for page in crawl[number::_SHARDS]))
    job = Job(
        input=(str(root / "crawl" / "*.warc.gz"),),
        output=str(root / "out"),
        workers=workers,
        watermarks=Watermarks(registry=str(registry)),
    )
    result = run(job)
    intro = (
        f"{len(crawl)} pages made from the documentation of installed Python packages, in {_SHARDS} WARC shards "
        f"under {root / 'crawl'}; hosts and capture dates are made up.\n"
    )
    found = found_table(crawl, result.output)
    return "\n".join([intro, found, "", headline(result.output, result.summary)])


def _is_demo(root: Path) -> bool:
    """Whether a folder holds an earlier demo and nothing else."""
    names = {path.name for path in root.iterdir()} if root.is_dir() else {"a file"}
    shards = list((root / "crawl").glob("*")) if "crawl" in names else []
    return names <= {"crawl", "out", FOLDER} and all(_SHARD_NAME.fullmatch(path.name) for path in shards)


def embedded_crawl(pages: int, site: bool = True) -> list[Page]:
    """The pages of the demo, the same for the same Python and, where `site`, the same installed packages."""
    rng = random.Random(1)
    texts = list(_unlike(_documentation(site), pages))
    if len(texts) < 2:
        raise UsageError("demo: no installed Python package has documentation to make pages of")
    rng.shuffle(texts)
    crawl = [
        Page(
            f"https://{name.lower()}.docs.example/{i}.html", _when(rng, _FIRST), _paragraphs(text), "", "documentation"
        )
        for i, (name, text) in enumerate(texts)
    ]
    copies = rng.sample(crawl, max(1, int(len(crawl) * _NEAR_COPIES)))
    for i, page in enumerate(copies):
        later = _when(rng, page.captured_at)
        crawl.append(Page(f"https://mirror.example/{i}.html", later, _light_edit(page.body, rng), "", "near copy"))
    crawl += _planted([text for _, text in texts], rng)
    rng.shuffle(crawl)
    return crawl


def _plant_marked(crawl: list[Page], folder: Path) -> Path:
    """Adds pages that carry a new key's watermark; gives the registry to find them with."""
    rng = random.Random(2)
    bodies = [page.body for page in crawl if page.truth == "documentation"]
    registry = demo_registry(bodies, folder)
    for i, text in enumerate(marked_bodies(bodies, registry, _PLANTED, rng)):
        url = f"https://{'abcde'[i % 5]}.marked.example/{i}.html"
        crawl.append(Page(url, _when(rng, _AFTER), _paragraphs(text), "", "marked by a key"))
    return registry


def found_table(crawl: Sequence[Page], output: str) -> str:
    """What was planted against what was found: counts by place and verdict."""
    truth = {page.url: page.truth for page in crawl}
    places: dict[str, Counter[str]] = defaultdict(Counter)
    verdicts: dict[str, Counter[str]] = defaultdict(Counter)
    for place in (*DOCUMENT_PLACES, Place.DUPLICATES):
        for part in sorted(Path(output, place.value).glob("part-*.parquet")):
            for row in pq.read_table(part, columns=["url", "verdict"]).to_pylist():
                places[truth[row["url"]]][place.value] += 1
                verdicts[truth[row["url"]]][row["verdict"]] += 1
    for part in sorted(Path(output, Place.REJECTS.value).glob("part-*.parquet")):
        for row in pq.read_table(part, columns=["url"]).to_pylist():
            places[truth[row["url"]]][Place.REJECTS.value] += 1
    planted = Counter(truth.values())
    lines = [f"{'planted':<22}{'pages':>6}  " + "".join(f"{p.value:>11}" for p in PLACES) + "   verdicts"]
    for kind in sorted(planted, key=lambda k: (-planted[k], k)):
        found = ", ".join(f"{n} {verdict}" for verdict, n in verdicts[kind].most_common())
        counts = "".join(f"{places[kind][p.value]:>11}" for p in PLACES)
        lines.append(f"{kind:<22}{planted[kind]:>6}  {counts}   {found}")
    if places[_GENERATED][Place.RESERVE.value]:
        lines.append("\nThe small generator's text is unlike all that the detector learned from, and passes: a clear")
        lines.append("verdict says that nothing was found, not that a person wrote the text.")
    return "\n".join(lines)


def _documentation(site: bool) -> Iterator[tuple[str, str]]:
    """(package, text) for long descriptions, and for the docstrings of each module of the standard library and site."""
    for distribution in sorted(importlib.metadata.distributions() if site else (), key=_name):
        yield _name(distribution) or "unnamed", _description(distribution)
    for key in ("stdlib", "purelib") if site else ("stdlib",):
        root = Path(sysconfig.get_paths()[key])
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).parts
            if {"site-packages", "test", "tests", "idlelib", "lib2to3"} & set(parts) or path.stat().st_size > 1 << 20:
                continue
            yield parts[0].removesuffix(".py").replace("_", "-").strip("-") or "python", "\n\n".join(_docstrings(path))


def _name(distribution: importlib.metadata.Distribution) -> str:
    return distribution.metadata["Name"] or ""


def _description(distribution: importlib.metadata.Distribution) -> str:
    """The long description: the body of the metadata, or its header in old packages."""
    message = email.message_from_string(distribution.read_text("METADATA") or "")
    body = message.get_payload()
    return (body if isinstance(body, str) else "") or message.get("Description", "")


def _docstrings(path: Path) -> Iterator[str]:
    # Strings that begin a line: docstrings, but for a few. Parsing thousands of modules would take most of the demo.
    for found in _DOCSTRING.finditer(path.read_text("utf-8", "ignore")):
        text = inspect.cleandoc(found[1])
        if len(text.split()) >= 12:
            yield text


def _unlike(texts: Iterator[tuple[str, str]], most: int) -> Iterator[tuple[str, str]]:
    """Texts of a page's length, without those that share a tenth of their five-word runs with an earlier one."""
    seen: set[int] = set()
    count = 0
    for name, text in texts:
        words = text.split()
        if len(words) < _MIN_WORDS:
            continue
        runs = {zlib.crc32(" ".join(words[i : i + 5]).encode()) for i in range(min(len(words), _MAX_WORDS) - 4)}
        if len(runs & seen) > 0.1 * len(runs):
            continue
        seen |= runs
        yield name, _cut(text, _MAX_WORDS)
        count += 1
        if count == most:
            return


def _cut(text: str, words: int) -> str:
    kept, held = [], 0
    for line in text.splitlines():
        held += len(line.split())
        if held > words:
            break
        kept.append(line)
    return "\n".join(kept)


def _planted(texts: Sequence[str], rng: random.Random) -> Iterator[Page]:
    generate = _generator(texts, rng)
    for i in range(_PLANTED):
        kinds = {
            "declared by meta": ('<meta name="ai-disclosure" content="ai-generated">', rng.choice(texts)),
            "declared by JSON-LD": (
                '<script type="application/ld+json">'
                + json.dumps({"@type": "Article", "digitalSourceType": _SOURCE_TYPE})
                + "</script>",
                rng.choice(texts),
            ),
            "C2PA text manifest": ("", rng.choice(texts) + wrap(b"demo manifest " + _SOURCE_TYPE.encode())),
            "chatbot leak": ("", f"{rng.choice(_LEAKS)}\n{rng.choice(texts)}"),
            _GENERATED: ("", generate(rng.randrange(150, 600))),
        }
        for kind, (head, text) in kinds.items():
            # Half of a known text, under another beginning, so that it is no near-duplicate of its original.
            body = text if kind == _GENERATED else _half(text, generate(60))
            url = f"https://{kind.lower().replace(' ', '-')}.example/{i}.html"
            yield Page(url, _when(rng, _AFTER), _paragraphs(body), head, kind)


def _half(text: str, lead: str) -> str:
    lines = text.splitlines()
    return "\n".join([lines[0], lead, *lines[1 + len(lines) // 2 :]])


def _generator(texts: Sequence[str], rng: random.Random) -> Callable[[int], str]:
    """A second-order Markov chain over words."""
    following: dict[tuple[str, str], list[str]] = defaultdict(list)
    for text in texts:
        words = text.split()
        for a, b, c in zip(words, words[1:], words[2:], strict=False):
            following[a, b].append(c)
    starts = sorted(following)

    def generate(length: int) -> str:
        pair = rng.choice(starts)
        words = list(pair)
        while len(words) < length:
            pair = pair if pair in following else rng.choice(starts)
            word = rng.choice(following[pair])
            words.append(word)
            pair = (pair[1], word)
        return "\n".join(" ".join(words[i : i + 60]) for i in range(0, len(words), 60))

    return generate


def _light_edit(body: str, rng: random.Random) -> str:
    words = body.split(" ")
    for _ in range(max(1, len(words) // 200)):
        i = rng.randrange(len(words))
        if "<" not in words[i]:
            words[i] = words[i].upper()
    return " ".join(words)


def _when(rng: random.Random, after: datetime) -> datetime:
    return after + timedelta(seconds=rng.randrange(1, int((_LAST - after).total_seconds()) + 2))


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{html.escape(line)}</p>" for line in text.splitlines() if line.strip())


def _record(page: Page) -> bytes:
    title = html.escape(page.url)
    content = (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{title}</title>{page.head}</head><body>"
        f"<nav><a href=/>Home</a> <a href=/api>API</a></nav><main><article><h1>{title}</h1>{page.body}</article></main>"
        "<footer>All rights reserved. Privacy policy.</footer></body></html>"
    ).encode("utf-8", "replace")
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + content
    name = hashlib.sha256(page.url.encode()).hexdigest()
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {page.url}\r\n"
        f"WARC-Date: {page.captured_at:%Y-%m-%dT%H:%M:%SZ}\r\n"
        f"WARC-Record-ID: <urn:uuid:{name[:8]}-{name[8:12]}-{name[12:16]}-{name[16:20]}-{name[20:32]}>\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    ).encode()
    return gzip.compress(head + http + b"\r\n\r\n", 6, mtime=0)

"""Real pages and real prose: boilerplate is found, and what people wrote is left alone."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.ingest.extraction import extract_text
from pipelines.ingest.html import decode_text
from pipelines.ingest.options import Extraction
from pipelines.ingest.urls import host_of
from pipelines.repeats.options import Repeats
from pipelines.repeats.paragraphs import Paragraphs, paragraphs
from pipelines.repeats.trim import recurring, trim
from tests.crawls import SHARED
from tests.neardup.support import tokens
from tests.repeats.support import Doc, hash_of, large, recurring_rows, run, write_shard

PLANTED = [
    "We and our partners store and read cookies on this device.",
    "Mit der Nutzung dieser Seite stimmen Sie den Nutzungsbedingungen zu.",
    "本网站使用Cookie以改善您的浏览体验，继续浏览即表示您同意。",
    "Todos los derechos reservados; se prohíbe la reproducción total o parcial.",
]


def repeated(folder: Path, docs: list[Doc], options: Repeats) -> tuple[pa.LargeStringArray, Paragraphs, np.ndarray]:
    """The texts, their paragraphs and which of them recur."""
    folder.mkdir(parents=True, exist_ok=True)
    shard = write_shard(folder, "shard", docs, options.letters)
    run([shard], options, folder / "largest")
    texts = large([d.text for d in docs])
    found = paragraphs(texts, options.letters)
    return texts, found, recurring(found, np.array(sorted(recurring_rows(shard)), np.uint64))


@pytest.mark.skipif(not (SHARED / "html_gold").is_dir(), reason="the shared real pages are absent")
def test_what_recurs_on_real_pages_is_never_the_article(tmp_path: Path) -> None:
    gold = json.loads((SHARED / "html_gold" / "ground-truth.json").read_text())
    docs, articles = [], []
    for name, truth in sorted(gold.items()):
        page = gzip.decompress((SHARED / "html_gold" / "html" / f"{name}.html.gz").read_bytes())
        docs.append(Doc(host_of(truth["url"]), extract_text(decode_text(page), Extraction(main_content=False))))
        articles.append(" ".join(["", *tokens(truth["articleBody"]), ""]))
    # With 126 hosts two are few, so this is harsher than the default.
    texts, found, repeats = repeated(tmp_path, docs, Repeats(mode="trim", hosts=2))
    assert repeats.sum() > 80
    shown = [
        " ".join(["", *tokens(texts[int(found.row[i])].as_py().encode()[found.begin[i] : found.end[i]].decode()), ""])
        for i in np.flatnonzero(repeats)
    ]
    assert any("cookies" in line for line in shown)
    assert any("rights" in line for line in shown)
    rows = found.row[repeats].tolist()
    assert [line for line, row in zip(shown, rows, strict=True) if line in articles[row]] == []


@pytest.mark.skipif(not (SHARED / "text").is_dir(), reason="the shared texts are absent")
def test_planted_boilerplate_is_found_in_prose_and_nothing_else(tmp_path: Path) -> None:
    rng = random.Random(1)
    texts = []
    for name in ("human_pre2020", "hc3zh", "outfox"):
        texts += pq.read_table(SHARED / "text" / f"{name}.parquet", columns=["text"])["text"].to_pylist()[::4]
    texts = sorted(set(texts))
    rng.shuffle(texts)
    assert len(texts) > 5000
    docs, planted = [], []
    for number, text in enumerate(texts):
        lines = [line for i, line in enumerate(PLANTED) if number % 40 == i]
        docs.append(Doc(f"{rng.randrange(200)}.example", "\n\n".join([text, *lines])))
        planted.append(bool(lines))
    column, found, repeats = repeated(tmp_path, docs, Repeats(mode="trim"))
    assert set(found.hash[repeats].tolist()) == {hash_of(line) for line in PLANTED}
    trimmed = trim(column, found, repeats)
    assert (trimmed.paragraphs > 0).tolist() == [p and not w for p, w in zip(planted, trimmed.whole, strict=True)]
    for doc, text, after, count in zip(docs, texts, trimmed.texts.to_pylist(), trimmed.paragraphs, strict=True):
        assert after.rstrip() == text.rstrip() if count else after == doc.text
    assert trimmed.whole.sum() < 5

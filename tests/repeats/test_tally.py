from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.repeats.pairs import RECURRING
from pipelines.repeats.paragraphs import paragraphs
from pipelines.repeats.tally import (
    REPEATS,
    SHARES,
    merge_samples,
    merge_shares,
    repeats_table,
    sample_texts,
    tally_shares,
)
from pipelines.repeats.trim import recurring, trim
from tests.repeats.support import hash_of, large

NOTICE = "We use cookies and other means."
BODY = "It rained all day in the old town."
PAGES = [
    ("reserve", "en", f"{NOTICE}\n{BODY}\n{NOTICE}"),
    ("reserve", "en", BODY),
    ("reserve", "de", NOTICE.upper()),
    ("review", "en", f"{BODY}\n{NOTICE}"),
    ("reserve", None, ""),
]


def tally(pages: list[tuple[str, str | None, str]], cut: bool) -> pa.Table:
    place, language, texts = zip(*pages, strict=True)
    column = large(texts)
    found = paragraphs(column, 20)
    repeated = recurring(found, np.array([hash_of(NOTICE)], np.uint64))
    trimmed = trim(column, found, repeated)
    return tally_shares(pa.array(place), pa.array(language, pa.string()), column, found, repeated, trimmed, cut)


def row(table: pa.Table, place: str, language: str | None) -> dict[str, Any]:
    (found,) = [r for r in table.to_pylist() if (r["place"], r["language"]) == (place, language)]
    return found


def test_shares_by_place_and_language() -> None:
    table = tally(PAGES, cut=True)
    assert table.schema.equals(SHARES)
    assert table.num_rows == 4
    n, body = len(NOTICE), len(BODY)
    assert list(row(table, "reserve", "en").values())[2:] == [2, 2 * n + 2 * body + 2, 1, 0, 2, 2 * n, 2, 2 * n + 2]
    assert list(row(table, "reserve", "de").values())[2:] == [1, n, 1, 1, 1, n, 0, 0]
    assert list(row(table, "review", "en").values())[2:] == [1, n + body + 1, 1, 0, 1, n, 1, n + 1]
    assert list(row(table, "reserve", None).values())[2:] == [1, 0, 0, 0, 0, 0, 0, 0]
    counting = tally(PAGES, cut=False)
    assert counting.drop_columns(["paragraphs_cut", "bytes_cut"]) == table.drop_columns(["paragraphs_cut", "bytes_cut"])
    assert set(counting["bytes_cut"].to_pylist()) == set(counting["paragraphs_cut"].to_pylist()) == {0}


def test_shares_merge_in_any_order() -> None:
    parts = [tally([page], cut=True) for page in PAGES]
    assert merge_shares(parts) == merge_shares(parts[::-1]) == tally(PAGES, cut=True)


def test_samples_come_from_the_smallest_doc_id_in_any_order() -> None:
    texts = [f"x\n  {NOTICE}", NOTICE.upper(), f"{NOTICE}!", "Ж" * 400, "no sample here, since nobody asks"]
    ids = [bytes([i]) * 16 for i in (5, 2, 9, 3, 1)]
    wanted = np.array([hash_of("Ж" * 400), hash_of(NOTICE), 12345], np.uint64)

    def samples(rows: list[int]) -> pa.Table:
        column = large([texts[i] for i in rows])
        return sample_texts(pa.array([ids[i] for i in rows], pa.binary(16)), column, paragraphs(column, 20), wanted)

    whole = samples([0, 1, 2, 3, 4])
    expected = {hash_of(NOTICE): NOTICE.upper(), hash_of("Ж" * 400): "Ж" * 150 + " …"}
    assert dict(zip(whole["paragraph"].to_pylist(), whole["text"].to_pylist(), strict=True)) == expected
    parts = [samples([i]) for i in range(5)]
    assert merge_samples(parts) == merge_samples(parts[::-1]) == whole
    counted = {"paragraph": [hash_of(NOTICE), 77], "hosts": [12, 10], "documents": [20, 11], "bytes": [640, 330]}
    table = repeats_table(pa.table(counted, schema=RECURRING), whole)
    assert table.schema.equals(REPEATS)
    first, second = table.to_pylist()
    assert first == {
        "paragraph": f"{hash_of(NOTICE):016x}",
        "hosts": 12,
        "documents": 20,
        "bytes": 640,
        "text": NOTICE.upper(),
    }
    assert second["text"] is None

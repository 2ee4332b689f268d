from __future__ import annotations

import itertools
import random
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.neardup.shingles import MOST_LETTERS, has_letters, text_buffers
from pipelines.repeats.paragraphs import UNKNOWN_HOST, host_hashes, paragraphs
from tests.neardup.test_shingles import SCRIPTS
from tests.repeats.support import large, split

ALPHABET = "aAéßz9 \t.,!-\u00a0\u00ad\u0301你かไปе\u0627\u0663한\U00020000\n\r\v\f\x85\u2028\u2029"


def compare(texts: list[str], least: int) -> None:
    found = paragraphs(large(texts), least)
    expected = [(row, *part) for row, text in enumerate(texts) for part in split(text, least)]
    assert found.row.tolist() == [e[0] for e in expected]
    assert list(zip(found.begin.tolist(), found.end.tolist(), strict=True)) == [(e[2], e[3]) for e in expected]
    by_tokens: dict[tuple[str, ...], int] = {}
    for words, value in zip((e[1] for e in expected), found.hash.tolist(), strict=True):
        assert by_tokens.setdefault(words, value) == value, words
    assert len(set(by_tokens.values())) == len(by_tokens)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(ALPHABET, max_size=60), min_size=1, max_size=6), st.integers(1, 8))
def test_agrees_with_plain_python_on_random_texts(texts: list[str], least: int) -> None:
    compare(texts, least)


@pytest.mark.parametrize("least", [1, 30, 60])
def test_agrees_with_plain_python_on_scripts(least: int) -> None:
    rng = random.Random(least)
    sentences = list(SCRIPTS.values())
    texts = []
    for _ in range(60):
        chosen = rng.choices(sentences, k=rng.randint(1, 6))
        shown = [rng.choice([str.upper, str.lower, str.strip])(s[: rng.randint(1, len(s))]) for s in chosen]
        texts.append("".join(s + rng.choice(["\n", "\r\n", "\n \n", "\u2029", "\x85"]) for s in shown))
    compare(texts, least)


def test_every_code_point_beyond_the_first_planes_counts_as_it_should() -> None:
    texts = [chr(c) for c in range(0x1F000, 0x110000, 7) if unicodedata.category(chr(c)) != "Cn"]
    found = {texts[i] for i in paragraphs(large(texts), 2).row}
    # Han of the planes 2 and 3 count as two letters; emoji, tags and private use as none.
    assert found >= {t for t in texts if 0x20000 <= ord(t) < 0x2F800}
    assert not {
        t for t in found if not any(unicodedata.category(c)[0] in "LN" for c in unicodedata.normalize("NFKD", t))
    }


def test_no_line_has_more_letters_than_its_bytes_allow() -> None:
    codes = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    starts, ends, data = text_buffers(large(codes))
    most = (ends - starts) * MOST_LETTERS
    for size in range(1, 5):
        of_size = most == size * MOST_LETTERS
        assert not has_letters(data, starts[of_size], ends[of_size], size * MOST_LETTERS + 1).any()


def test_the_same_paragraph_in_other_clothes() -> None:
    line = "Wir verwenden Cookies, um Straßen & Größen zu zählen."
    shown = [line, line.upper(), f"\t  {line}  ", unicodedata.normalize("NFD", line), line.replace(" ", "\u00a0 ")]
    shown += [line.replace("Co", "C\u00ado\u200b"), line.replace(",", " –"), line + "\r"]
    found = paragraphs(large(["\n".join(shown)]), 30)
    assert len(found.hash) == len(shown)
    assert len(set(found.hash.tolist())) == 1


def test_the_order_and_number_of_words_count() -> None:
    lines = ["one two three four five", "two one three four five", "one two three four", "one two three four five five"]
    assert len(set(paragraphs(large(lines), 1).hash.tolist())) == len(lines)
    # Sequences of two words on which a plain polynomial modulo 2⁶⁴ collides, whatever its base (Thue and Morse).
    bits = [bin(i).count("1") & 1 for i in range(2048)]
    first = " ".join("ab"[b] for b in bits)
    second = " ".join("ba"[b] for b in bits)
    assert len(set(paragraphs(large([first, second]), 1).hash.tolist())) == 2


def test_short_ones_are_passed_over_by_letters_and_not_by_width() -> None:
    texts = ["x" * 29, "x" * 30, " x" * 29, " x" * 30, "-" * 99, "漢" * 14, "漢" * 15, "한" * 10, "Ⅷ" * 8, ""]
    assert paragraphs(large(texts), 30).row.tolist() == [1, 3, 6, 7, 8]


def test_a_very_long_paragraph_an_empty_column_nulls_and_slices() -> None:
    long = " ".join(str(i) for i in range(300_000))
    found = paragraphs(large([None, long, "", long + "!", long + " 1"]), 30)
    assert found.row.tolist() == [1, 3, 4]
    assert found.end.tolist() == [len(long), len(long) + 1, len(long) + 2]
    assert found.hash[0] == found.hash[1] != found.hash[2]
    assert [len(column) for column in paragraphs(large([]), 30)] == [0, 0, 0, 0]
    texts = [*SCRIPTS.values(), None, "", *SCRIPTS.values()]
    whole, part = paragraphs(large(texts), 10), paragraphs(large(texts).slice(3, 12), 10)
    inside = (whole.row >= 3) & (whole.row < 15)
    assert (whole.row[inside] - 3).tolist() == part.row.tolist()
    assert whole.hash[inside].tolist() == part.hash.tolist()
    assert whole.begin[inside].tolist() == part.begin.tolist()


def test_bytes_that_are_not_utf8_end_no_row_early() -> None:
    rows = [b"abc\xe2\x80", b"\xa8def", b"abc\xc2", b"\x85def", b"ab\xffc\ndef\xe2"]
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    column = pa.Array.from_buffers(
        pa.large_string(), len(rows), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(rows))]
    )
    found = paragraphs(column, 3)
    assert list(zip(found.row.tolist(), found.begin.tolist(), found.end.tolist(), strict=True)) == [
        (0, 0, 5),
        (1, 0, 4),
        (2, 0, 4),
        (3, 0, 4),
        (4, 0, 4),
        (4, 5, 9),
    ]


def test_hashes_spread_evenly() -> None:
    values = paragraphs(large([f"paragraph number {i}" for i in range(65536)]), 1).hash
    assert len(np.unique(values)) == 65536
    for shift in range(0, 64, 8):
        counts = np.bincount((values >> np.uint64(shift) & np.uint64(255)).astype(np.int64), minlength=256)
        chi_square = float(((counts - 256.0) ** 2 / 256.0).sum())
        assert 150 < chi_square < 390  # 255 degrees of freedom: six standard deviations below and above


def test_hosts() -> None:
    names = ["a.example", None, "b.example", "a.example", None, "", "bücher.example"]
    values = host_hashes(pa.array(names, pa.string())).tolist()
    for (i, a), (j, b) in itertools.combinations(enumerate(values), 2):
        assert (a == b) == (names[i] == names[j])
    assert values[1] == UNKNOWN_HOST
    assert values[2:4] == host_hashes(pa.array(names, pa.string()).slice(2, 2)).tolist()
    assert host_hashes(pa.array([], pa.string())).tolist() == []

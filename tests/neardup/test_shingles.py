from __future__ import annotations

import itertools
import sys
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.neardup.shingles import CHARACTER, WORD, shingle_hashes, tables
from tests.neardup.support import UNSPACED_NAMES, shingles, tokens

SCRIPTS = {
    "english": "The quick brown fox, they say, doesn't jump over 13 lazy dogs; it SLEEPS all day long.",
    "german": "Die Straße führt über Fußgängerbrücken nach Übersee, und ÜBERALL grüßt jemand höflich.",
    "arabic": "اللغة العربية هي أكثر اللغات السامية تحدثا، وإحدى أكثر اللغات انتشارا في العالم.",
    "hindi": "हिन्दी विश्व की एक प्रमुख भाषा है और भारत की एक राजभाषा है। केन्द्रीय स्तर पर भी।",
    "korean": "한국어는 대한민국과 조선민주주의인민공화국의 공용어이다. 표준어는 서울말이다.",
    "chinese": "汉语，又称中文、唐话，是世界上使用人数最多的语言。GPT4模型在2023年发布。",
    "japanese": "日本語は、日本国内や、日本人同士の間で使われている言語。コンピューターでも使う。",
    "thai": "ภาษาไทยเป็นภาษาราชการและภาษาประจำชาติของประเทศไทย และเป็นภาษาแม่ของชาวไทย",
    "khmer": "ភាសាខ្មែរ គឺជាភាសាកំណើតរបស់ជនជាតិខ្មែរ និងជាភាសាផ្លូវការរបស់ប្រទេសកម្ពុជា",
    "lao": "ພາສາລາວ ເປັນພາສາທາງການຂອງສາທາລະນະລັດ ປະຊາທິປະໄຕ ປະຊາຊົນລາວ",
    "burmese": "မြန်မာဘာသာစကား သည် မြန်မာနိုင်ငံ၏ ရုံးသုံးဘာသာစကား ဖြစ်သည်။",
    "greek": "Η ελληνική γλώσσα ανήκει στην ινδοευρωπαϊκή οικογένεια, ΟΔΥΣΣΕΥΣ και οδυσσευς.",
    "hebrew": "עברית היא שפה שמית, ממשפחת השפות האפרו-אסיאתיות, הידועה כשפתם של היהודים.",
}


def hashes_of(texts: list[str | None], size: int = 5) -> list[list[int]]:
    hashes, offsets = shingle_hashes(pa.array(texts, pa.large_string()), size)
    return [hashes[a:b].tolist() for a, b in itertools.pairwise(offsets)]


def same_partition(left: list, right: list) -> bool:
    """Whether two sequences repeat themselves at the same places."""
    return [left.index(x) for x in left] == [right.index(x) for x in right]


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("script", SCRIPTS)
def test_agrees_with_plain_python_on_scripts(script: str, size: int) -> None:
    text = SCRIPTS[script] + " " + SCRIPTS[script]
    assert same_partition(hashes_of([text], size)[0], shingles(text, size))


def test_agrees_with_plain_python_on_every_code_point() -> None:
    """Between letters, so that a character shows as a part of the word, a token, a separator or nothing."""
    codes = [c for c in (*range(0x1950), *range(0x2000, 0xA000)) if not 0xD800 <= c < 0xE000]
    texts = [f"a{chr(c)}b" for c in codes]
    ours, reference = hashes_of(texts, 1), [shingles(t, 1) for t in texts]
    assert [hex(c) for c, a, b in zip(codes, ours, reference, strict=True) if len(a) != len(b)] == []


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=4), st.integers(1, 6))
def test_agrees_with_plain_python_on_any_text(texts: list[str], size: int) -> None:
    texts = [t.encode("utf-8", "ignore").decode() for t in texts]
    # Letters outside the named scripts that are written without spaces are tested by their class below.
    texts = ["".join(c for c in t if ord(c) < 0x1950 or 0x2000 <= ord(c) < 0xA000) for t in texts]
    ours, reference = hashes_of(texts, size), [shingles(t, size) for t in texts]
    assert [len(h) for h in ours] == [len(s) for s in reference]
    assert same_partition(list(itertools.chain(*ours)), list(itertools.chain(*reference)))


def test_folding_makes_case_width_and_composition_no_difference() -> None:
    text = "Ünïcödé FILES ﬁnd Straße K Ω 東京タワー ①②"
    for variant in (
        text.upper(),
        text.lower(),
        unicodedata.normalize("NFD", text),
        unicodedata.normalize("NFKC", text),
    ):
        assert hashes_of([variant], 2) == hashes_of([text], 2), variant
    assert hashes_of(["ｶﾞｷﾞ"], 1) == hashes_of(["ガギ"], 1)


def test_invisible_characters_do_not_hide_a_copy_and_wide_punctuation_separates() -> None:
    plain = "copies of this text are found again"
    assert hashes_of(["co\u200bpies o\u00adf t\ufe0fhis\U000e0041 text are\u2060 found again"]) == hashes_of([plain])
    separated = "copies\u3000of、this。text\u2014are…found「again"
    assert hashes_of([separated]) == hashes_of([plain])


def test_classes_follow_the_character_names() -> None:
    kind = tables().kind
    for code in range(0x20000):
        name, category = unicodedata.name(chr(code), ""), unicodedata.category(chr(code))
        if category[0] in "LN" and name.startswith(UNSPACED_NAMES):
            assert kind[code] == CHARACTER, name
        if name.startswith(("LATIN SMALL", "GREEK SMALL", "CYRILLIC", "ARABIC LETTER", "HEBREW LETTER", "HANGUL")):
            assert category[0] in "MSPC" or kind[code] == WORD, name
    assert len(hashes_of(["\U00020000\U00020001\U00030000"], 1)[0]) == 3
    assert tokens("漢字かなカナ") == list("漢字かなカナ")


def test_no_code_point_gives_more_than_two_tokens_a_byte() -> None:
    texts = [chr(c) * 40 for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]
    _, offsets = shingle_hashes(pa.array(texts, pa.large_string()), 1)
    counts = np.diff(offsets)
    assert all(n <= 2 * len(t.encode()) for n, t in zip(counts.tolist(), texts, strict=True))


def test_slices_offsets_and_nulls() -> None:
    texts: list[str | None] = ["first one here", None, *SCRIPTS.values(), "", None, "last"]
    column = pa.array(texts, pa.large_string())
    expected = hashes_of([t or "" for t in texts], 3)
    for begin, end in ((0, len(texts)), (1, 5), (3, 9), (len(texts) - 3, len(texts)), (4, 4)):
        hashes, offsets = shingle_hashes(column.slice(begin, end - begin), 3)
        got = [hashes[a:b].tolist() for a, b in itertools.pairwise(offsets)]
        assert got == expected[begin:end]
    empty, offsets = shingle_hashes(pa.array([], pa.large_string()), 5)
    assert len(empty) == 0
    assert offsets.tolist() == [0]
    with pytest.raises(TypeError, match="large_string"):
        shingle_hashes(pa.array(["a"], pa.string()), 5)


def test_bytes_that_are_not_utf8_separate_and_stay_inside_the_row() -> None:
    rows = [b"good \xff\xfeword", b"cut off \xe6\xbc", b"\xa2 next row", b"\xc0\xaf overlong", b"\xf5\x80\x80\x80 far"]
    offsets = np.cumsum([0, *map(len, rows)])
    buffers = [None, pa.py_buffer(offsets.astype(np.int64)), pa.py_buffer(b"".join(rows))]
    hashes, at = shingle_hashes(pa.Array.from_buffers(pa.large_string(), len(rows), buffers), 1)
    expected = ["good word", "cut off", "next row", "overlong", "far"]
    assert [hashes[a:b].tolist() for a, b in itertools.pairwise(at)] == hashes_of(list(expected), 1)


def test_short_and_tokenless_texts_do_not_collapse() -> None:
    texts = [
        "yes",
        "no",
        "yes no",
        "",
        "!",
        "!!",
        "🙂",
        "🙂🙂",
        "---",
        "نعم",
        "لا",
        "はい",
        "いい",
        "ใช่",
        "ไม่",
        "そうです。",
        "是",
    ]
    hashes = hashes_of(list(texts))
    assert [len(h) for h in hashes] == [1] * len(texts)
    assert len({h[0] for h in hashes}) == len(texts)


def test_hashes_spread_evenly() -> None:
    hashes, _ = shingle_hashes(pa.array([" ".join(f"w{i}" for i in range(65536 + 4))], pa.large_string()), 5)
    for shift in (0, 8, 16, 24):
        counts = np.bincount(hashes >> shift & 255, minlength=256)
        chi_square = float(((counts - 256.0) ** 2 / 256.0).sum())
        assert 150 < chi_square < 390  # 255 degrees of freedom: six standard deviations below and above
    assert len(np.unique(hashes)) > 65536 - 12  # 0.5 pairs collide on average

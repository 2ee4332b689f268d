from __future__ import annotations

import functools
import itertools
import random
import sys
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.neardup.shingles import CHARACTER, IGNORED, WORD, shingle_hashes, tables
from tests.neardup.support import UNSPACED_NAMES, tokens
from tests.neardup.support import shingles as shingles_in_order

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


# Where letters are drawn from: scripts with and without spaces, with case and without, with marks, in all planes.
RANGES = {
    "latin": [(0x61, 0x7B), (0x41, 0x5B), (0xC0, 0x250), (0x1E00, 0x1F00), (0x300, 0x345)],
    "greek": [(0x370, 0x400), (0x1F00, 0x2000)],
    "cyrillic": [(0x400, 0x530), (0x2DE0, 0x2E00), (0xA640, 0xA6A0)],
    "armenian": [(0x531, 0x590), (0xFB13, 0xFB18)],
    "hebrew": [(0x591, 0x5F5), (0x5D0, 0x5EB), (0x5D0, 0x5EB), (0xFB1D, 0xFB50)],
    "arabic": [(0x620, 0x660), (0x660, 0x6DC), (0x640, 0x653), (0x8A0, 0x8B5), (0xFB50, 0xFBB2), (0xFE70, 0xFEFD)],
    "devanagari": [(0x900, 0x980), (0x200C, 0x200E)],
    "bengali": [(0x980, 0xA00)],
    "tamil": [(0xB80, 0xC00)],
    "sinhala": [(0xD80, 0xE00)],
    "thai": [(0xE01, 0xE5C)],
    "lao": [(0xE81, 0xEE0)],
    "tibetan": [(0xF00, 0xFDB), (0xF0B, 0xF0C), (0xF71, 0xF85)],
    "burmese": [(0x1000, 0x10A0), (0xAA60, 0xAA80)],
    "georgian": [(0x10A0, 0x1100), (0x1C90, 0x1CC0)],
    "ethiopic": [(0x1200, 0x13A0)],
    "cherokee": [(0x13A0, 0x1400), (0xAB70, 0xABC0)],
    "khmer": [(0x1780, 0x17EA)],
    "mongolian": [(0x1800, 0x18AB)],
    "kana": [(0x3041, 0x3100), (0x31F0, 0x3200), (0xFF65, 0xFFA0)],
    "hangul": [(0xAC00, 0xD7A4), (0xAC00, 0xD7A4), (0x1100, 0x1200), (0x3131, 0x318F), (0xFFA0, 0xFFDD)],
    "han": [(0x4E00, 0xA000), (0x4E00, 0xA000), (0x3400, 0x4DC0), (0x2E80, 0x2FE0), (0xF900, 0xFAD9)],
    "han beyond": [(0x20000, 0x2A6E0), (0x2F800, 0x2FA1E), (0x30000, 0x3134B)],
    "emoji": [(0x1F300, 0x1F650), (0x1F900, 0x1FA00), (0x200D, 0x200E), (0xFE0F, 0xFE10), (0x1F1E6, 0x1F200)],
    "mathematical": [(0x1D400, 0x1D800), (0x2070, 0x2190), (0x2460, 0x2500)],
    "other planes": [
        (0x10000, 0x10140),
        (0x10280, 0x10B00),
        (0x10400, 0x10450),
        (0x11000, 0x11A00),
        (0x12000, 0x12400),
    ],
    "punctuation": [(0x21, 0x30), (0x2010, 0x2070), (0x3001, 0x3020), (0xFF01, 0xFF10)],
}
SEPARATING = [" ", " ", " ", ", ", "\n", "\u3000", "\u00a0", "。", "\u200b", "\u00ad"]


@functools.cache
def made_texts(count: int) -> tuple[str, ...]:
    """Texts of one script, or of several, from nothing up to tens of thousands of characters."""
    rng = random.Random(20)
    texts = [""]
    while len(texts) < count:
        scripts = rng.sample(sorted(RANGES), 1 if rng.random() < 0.8 else rng.randint(2, 5))
        ranges = [span for script in scripts for span in RANGES[script]]
        letters = [chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.choice((3, 20, 80)))]
        words = ["".join(rng.choices(letters, k=rng.randint(1, 9))) for _ in range(rng.choice((2, 10, 40)))]
        length = int(10 ** rng.uniform(0, 2)) if len(texts) % 500 else rng.choice((4097, 5000, 9000))
        texts.append("".join(w + rng.choice(SEPARATING) for w in rng.choices(words, k=length)))
    return tuple(texts)


def in_order(text: str) -> str:
    """What the kernel does beyond `tokens`: accents in one order, no case in Turkish, nothing but what is seen."""
    unseen = dict.fromkeys([0x115F, 0x1160, 0x3164, 0xFFA0, 0x17B4, 0x17B5, 0x0640])
    text = text.translate(unseen | {0x130: "i", 0x131: "i", 0x309B: "\u3099", 0x309C: "\u309a"})
    text = text.replace("i\u0307", "i").replace("I\u0307", "i")
    pieces = (unicodedata.normalize("NFKD", c) for c in text)
    # An Arabic mark on a space of its own, or on a tatweel, is the mark alone.
    spread = "".join(
        p[1:] if "ARABIC" in unicodedata.name(c, "") and p[0] in " \u0640" else p
        for c, p in zip(text, pieces, strict=True)
    )
    # The iota below a Greek vowel is a letter by the time that marks are put into order.
    runs = itertools.groupby(spread, lambda c: unicodedata.combining(c) > 0 and c != "\u0345")
    return "".join("".join(sorted(run) if accents else run) for accents, run in runs)


def shingles(text: str, size: int = 5) -> list[tuple[str, ...]]:
    return shingles_in_order(in_order(text), size) if tokens(in_order(text)) else [("raw", text)]


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


def test_agrees_with_plain_python_on_made_texts_of_every_script() -> None:
    texts = [t for t in made_texts(2000) if len(t) < 1000]
    assert len(texts) > 1900
    for text, ours in zip(texts, hashes_of(list(texts)), strict=True):
        assert same_partition(ours, shingles(text)), ascii(text)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_canonical_equivalents_are_the_same(form: str) -> None:
    """Whole strings, whose accents are put into canonical order; but for the iota that folds to a letter of its own."""
    texts = [t for t in made_texts(10000) if "\u0345" not in unicodedata.normalize("NFD", t) and tokens(t[:200])]
    assert len(texts) > 8500
    normalised = hashes_of([unicodedata.normalize(form, t) for t in texts])
    differing = [ascii(t) for t, a, b in zip(texts, hashes_of(list(texts)), normalised, strict=True) if a != b]
    assert differing == []


SAME = {
    "Vietnamese out of Windows-1258": ("Vi\u1ec7t m\u1ed9t", "Vi\u00ea\u0323t m\u00f4\u0323t"),
    "Arabic vowel before or after the shadda": ("\u0645\u064e\u0651\u062f", "\u0645\u0651\u064e\u062f"),
    "Hebrew dagesh before or after the vowel": ("\u05d1\u05bc\u05b0\u05d2", "\u05d1\u05b0\u05bc\u05d2"),
    "Tibetan vowels in either order": ("\u0f40\u0f71\u0f74", "\u0f40\u0f74\u0f71"),
    "Arabic stretched by tatweels": ("سلام عليكم", "ســـلام عليـكم"),
    "Arabic presentation forms": ("\u0633\u0644\u0627\u0645", "\ufeb3\ufefc\ufee1"),
    "Arabic marks as isolated forms": ("\u0633\u064e\u0644", "\u0633\ufe76\u0644"),
    "Arabic marks on tatweels": ("\u0633\u064e\u0644", "\u0633\ufe77\u0644"),
    "Turkish capitals": ("İSTANBUL IŞIK", "istanbul ışık"),
    "Turkish capitals, decomposed": ("I\u0307STANBUL", "istanbul"),
    "German sharp s": ("STRASSE", "straße"),
    "Greek final sigma": ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
    "Georgian capitals": ("ᲐᲑᲒ", "აბგ"),
    "Deseret capitals": ("𐐀𐐁", "𐐨𐐩"),
    "Hangul syllables and jamo": ("한국어", unicodedata.normalize("NFD", "한국어")),
    "Hangul with invisible fillers": ("한국어", "한\u3164국\u115f\uffa0어"),
    "Khmer with inherent vowels": ("\u1780\u1798", "\u1780\u17b4\u1798\u17b5"),
    "halfwidth katakana": ("ガギパー", "ｶﾞｷﾞﾊﾟｰ"),
    "kana with spacing voiced marks": ("がぱ", "か\u309bは\u309c"),
    "Han compatibility ideographs": ("\u8c48\u4e3d", "\uf900\U0002f800"),
    "Kangxi radicals": ("一金", "\u2f00\u2fa6"),
    "Thai sara am": ("\u0e19\u0e49\u0e33", "\u0e19\u0e49\u0e4d\u0e32"),
    "mathematical letters": ("bold 1 text", "𝐁𝐨𝐥𝐝 𝟙 𝚝𝚎𝚡𝚝"),
    "soft hyphens": ("cooperation", "co\u00adopera\u00adtion"),
    "Persian without its joiners": ("می\u200cخواهم", "میخواهم"),
    "Hindi with a joiner": ("\u0915\u094d\u0937", "\u0915\u094d\u200d\u0937"),
    "bidi marks": ("שלום 12", "\u202bשלום\u202c\u200f 12\u2069"),
}
UNLIKE = {
    "accents": ("côte", "cote"),
    "the letter of an accent": ("ậa", "aậ"),
    "two accents and one": ("a\u0301", "a\u0301\u0301"),
    "accents whose code points have the same sum": ("a\u0301\u0304", "a\u0302\u0303"),
    "Indic vowel signs in another order": ("\u0915\u093e\u0940", "\u0915\u0940\u093e"),
    "Thai vowels": ("กี", "กี่"),
    "Arabic letters that differ by dots": ("بيت", "تيب"),
    "a dot above another letter": ("ż", "z"),
    "a joined word and two words": ("می\u200cخواهم", "می خواهم"),
    "voiced and unvoiced kana": ("か", "が"),
    "small and large kana": ("ツ", "ッ"),
    "hiragana and katakana": ("ひ", "ヒ"),
    "simplified and traditional Han": ("汉", "漢"),
    "long vowels": ("ビル", "ビール"),
}


@pytest.mark.parametrize("case", SAME)
def test_same_to_a_reader(case: str) -> None:
    one, other = (f"a {text} b" for text in SAME[case])
    assert hashes_of([one], 1) == hashes_of([other], 1)


@pytest.mark.parametrize("case", UNLIKE)
def test_unlike_to_a_reader(case: str) -> None:
    one, other = (f"a {text} b" for text in UNLIKE[case])
    assert hashes_of([one], 1) != hashes_of([other], 1)


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
            assert category[0] in "MSPC" or kind[code] == (IGNORED if name.endswith("FILLER") else WORD), name
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

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watermark import c2pa_text
from watermark.hidden_characters import find
from watermark.zero_width import ZERO_WIDTH, decode

SHARED = Path(__file__).parents[2] / ".." / "shared"
IPTC = b"http://cv.iptc.org/newscodes/digitalsourcetype/"


def smuggled(data: bytes) -> str:
    return "".join(chr(0xFE00 + b) if b < 16 else chr(0xE0100 + b - 16) for b in data)


def tagged(text: str) -> str:
    return "".join(chr(0xE0000 + ord(c)) for c in text)


def in_digits(text: str, alphabet: str, width: int) -> str:
    out = []
    for value in text.encode():
        digits = []
        for _ in range(width):
            value, digit = divmod(value, len(alphabet))
            digits.append(alphabet[digit])
        out += digits[::-1]
    return "".join(out)


def test_frozen_c2pa_vector() -> None:
    path = SHARED / "vectors/c2pa-a8-variation-selector.json"
    if not path.exists():
        pytest.skip("no ../shared/vectors")
    vector = json.loads(path.read_text())["wrapperVector"]
    wrapper = bytes.fromhex(vector["wrapper_utf8_hex"]).decode()
    payload = bytes.fromhex(vector["payload_hex"])
    (carrier,) = find("Some text." + wrapper)
    assert (carrier.kind, carrier.payload, carrier.problem) == ("c2pa_text_manifest", payload, None)
    assert (carrier.offset, carrier.length) == (10, len(wrapper))
    assert c2pa_text.wrap(payload) == wrapper


@given(st.binary(max_size=300), st.text(alphabet="abc é中", max_size=20))
def test_c2pa_round_trip(payload: bytes, text: str) -> None:
    (carrier,) = find(text + c2pa_text.wrap(payload) + text)
    assert (carrier.payload, carrier.problem, carrier.offset) == (payload, None, len(text))


@pytest.mark.parametrize(
    ("wrapper", "problem"),
    [
        (c2pa_text.wrap(b"manifest")[:-3], "8 bytes of payload, 5 are there"),
        (c2pa_text.wrap(b"manifest")[:12], "inside its header"),
        (c2pa_text.wrap(b"manifest")[:6], "inside its header"),
        (c2pa_text.wrap(b"manifest")[1:], "U+FEFF is missing"),
        (c2pa_text.wrap(b"manifest") + smuggled(b"more"), "4 bytes follow"),
        ("\ufeff" + smuggled(b"C2PATXT\0\x02\0\0\0\x01x"), "version 2"),
        ("\ufeff" + smuggled(b"C2PATXT\0\x01\xff\xff\xff\xffx"), "4294967295 bytes"),
    ],
)
def test_broken_wrappers_say_what_is_wrong(wrapper: str, problem: str) -> None:
    (carrier,) = find(f"text{wrapper} and text")
    assert carrier.kind == "c2pa_text_manifest"
    assert problem in (carrier.problem or "")


def test_second_wrapper_is_a_problem_and_padding_is_none() -> None:
    first, second = find(c2pa_text.wrap(b"one") + smuggled(b"\0\0\0") + "x" + c2pa_text.wrap(b"two"))
    assert first.problem is None
    assert "more than one" in (second.problem or "")


@pytest.mark.parametrize(
    ("payload", "source_type"),
    [
        (b"\x78\x46" + IPTC + b"trainedAlgorithmicMedia" + b"\x69timestamp", "trainedAlgorithmicMedia"),
        (b'{"digitalSourceType":"' + IPTC + b'humanEdits"}', "humanEdits"),
        (b"xx" + IPTC + b"compositeWithTrainedAlgorithmicMediaiwhen", "compositeWithTrainedAlgorithmicMedia"),
        (IPTC + b"digitalCapture\0" + IPTC + b"trainedAlgorithmicMedia\0", "trainedAlgorithmicMedia"),
        (b"http://c2pa.org/digitalsourcetype/trainedAlgorithmicData\0", "trainedAlgorithmicData"),
        (IPTC + b"unheardOf\0", None),
        (b"jumb", None),
    ],
)
def test_source_type_of_a_manifest(payload: bytes, source_type: str | None) -> None:
    (carrier,) = find("x" + c2pa_text.wrap(payload))
    assert carrier.source_type == source_type


@given(st.binary(min_size=3, max_size=200).filter(lambda d: len(set(d)) > 1 and not set(d) <= {14, 15}))
def test_bytes_behind_an_emoji(data: bytes) -> None:
    (carrier,) = find(f"hi \U0001f600{smuggled(data)} there")
    assert (carrier.payload, carrier.offset, carrier.length) == (data, 4, len(data)) or c2pa_text.is_wrapper(data)


def test_one_selector_for_each_letter_is_found() -> None:
    text = "".join(letter + smuggled(bytes([b])) for letter, b in zip("abcdefghijkl", b"hello, world", strict=True))
    (carrier,) = find(text)
    assert (carrier.kind, carrier.payload) == ("variation_selectors", b"hello, world")


@given(st.text(alphabet="abcdefgh XYZ.,", min_size=3, max_size=80).filter(lambda t: len(set(t)) > 1))
def test_ascii_smuggling(text: str) -> None:
    (carrier,) = find("a" + tagged(text) + "b")
    assert (carrier.kind, carrier.payload) == ("tag_characters", text.encode())


def test_tags_behind_a_real_flag_are_found() -> None:
    (carrier,) = find("\U0001f3f4" + tagged("gbeng\x7f") + tagged("ignore this") + "!")
    assert carrier.payload == b"ignore this"


@pytest.mark.parametrize(
    ("alphabet", "width"),
    [
        ("\u200b\u200c", 8),
        ("\u200c\u200b", 8),
        ("\u200b\u200c", 7),
        ("\u200b\u200c\u200d\ufeff", 4),
        ("\u200c\u200d\u2061\u2062", 4),
    ],
)
def test_zero_width_alphabets(alphabet: str, width: int) -> None:
    (carrier,) = find("visible" + in_digits("Meet at the old mill", alphabet, width) + " text")
    assert (carrier.kind, carrier.payload) == ("zero_width", b"Meet at the old mill")


def test_zero_width_binary_words_with_separator_and_joiner() -> None:
    groups = " ".join(f"{ord(c):b}" for c in "secret message")
    run = "\ufeff".join({"1": "\u200b", "0": "\u200c", " ": "\u200d"}[c] for c in groups)
    assert decode(run) == "secret message"


def test_unread_zero_width_run_is_reported_with_its_symbols() -> None:
    run = "".join("\u200b\u200c\u200d"[(i * i * 7 + i // 3) % 3] for i in range(41))
    (carrier,) = find("a" + run + "b")
    assert carrier.payload is None
    assert carrier.preview == "41 symbols of U+200B, U+200C, U+200D"


LEGITIMATE = {
    "emoji presentation": "❤️ ☎︎ ✔️✔️",
    "doubled VS16": "❤️️ ❤️️️️ ☎︎️︎️",
    "ZWJ family": "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f3f3️\u200d\U0001f308 ❤️\u200d\U0001f525" * 20,
    "keycaps": "1️⃣2️⃣3️⃣#️⃣",
    "flags": (
        "\U0001f3f4" + tagged("gbeng\x7f") + "\U0001f3f4" + tagged("gbsct\x7f") + "\U0001f3f4" + tagged("ustx\x7f")
    )
    * 5,
    "flag cut": "\U0001f3f4" + tagged("gben"),
    "flags without their emoji": tagged("gbeng\x7f") + tagged("gbwls\x7f"),
    "language tag": tagged("\x01en-us") + "text",
    "ideographic variants": "葛\U000e0100城市 辻\U000e0101 邊\U000e010a" * 12,
    "Mongolian": "ᠮᠤᠩ᠋ᠭ᠌ᠤ᠍ᠯ᠎ᠠ" * 9,
    "Persian": "می\u200cخواهم کتاب\u200cها را\u200c\u200c ببینم" * 9,
    "Indic": "क्\u200dष क्\u200cष ശ്\u200d" * 9,
    "Khmer": "ខ្ញុំ\u200bស្រឡាញ់\u200bភាសា\u200bខ្មែរ" * 9,
    "Khmer, doubled": "ក\u200b\u200bខ\u200b\u200b\u200b",
    "BOMs": "\ufefftext\ufeff\ufefftext",
    "directional": "\u200f\u200e\u202a\u202c\u200f\u200e\u200e\u202b\u202c\u200f\u202a\u202c\u200e\u200f\u200e\u202c",
    "soft hyphens": "Donau\u00addampf\u00adschiff" * 9,
    "preheader 1": "\u200c\u00a0" * 200,
    "preheader 2": "\u034f \u200c \u00a0 \u2007 \ufeff" * 90,
    "preheader 3": "\u00a0\u200c\u200b\u200d\u200e\u200f\ufeff" * 90,
    "preheader 4": "\u200c\u200b\u200d\u200e\u200f\ufeff" * 90,
    "padding": "\u200b" * 100 + "\u2060\ufeff" * 40 + "x" + "\u200b" * 30 + "\u200c" + "\u200b" * 30,
    "lone surrogates": "\ud83d\ude00 \udb40\udc41",
}


@pytest.mark.parametrize("name", LEGITIMATE)
def test_legitimate_use_raises_no_alarm(name: str) -> None:
    assert find(LEGITIMATE[name]) == []
    assert find(f"before {LEGITIMATE[name]} after") == []


@settings(max_examples=300)
@given(
    st.text(
        alphabet=st.sampled_from(
            [*ZERO_WIDTH.replace("-", ""), "\ufe00", "\ufe0f", "\U000e0141", "\U000e0061", "\ud800", "a"]
        )
    )
)
def test_never_raises_and_carriers_lie_in_the_text(text: str) -> None:
    end = 0
    for carrier in find(text):
        assert end <= carrier.offset
        assert carrier.length > 0
        end = carrier.offset + carrier.length
        assert end <= len(text)
        assert len(carrier.preview) <= 80


def test_hostile_text_ends() -> None:
    """Each of these takes hours where a scan is quadratic."""
    for text in (
        "\u200b\u200c\u200d\ufeff\u200b\u200b\u200c" * 60_000,
        ("\u200b\u200c" * 8 + "x\u200b") * 25_000,
        "a" + "\U000e0141\U000e0142" * 200_000,
        "\U0001f3f4\U000e0067\U000e0062" * 150_000,
    ):
        assert isinstance(find(text), list)


def test_no_false_alarm_on_human_text() -> None:
    paths = sorted((SHARED / "text").glob("*.parquet"))
    if not paths:
        pytest.skip("no ../shared/text")
    rows = 0
    for path in paths:
        table = pq.read_table(path, columns=["text"], filters=[("label", "==", "human")])
        rows += len(table)
        alarms = [carrier for text in table["text"].to_pylist() for carrier in find(text)]
        assert alarms == [], path.name
    assert rows > 30_000


def test_a_text_of_nothing_else_gives_a_bounded_number():
    one = "a" + "".join("\u200b" if bit == "0" else "\u200c" for bit in f"{ord('x'):08b}{ord('y'):08b}")
    assert len(find(one * 999)) == 999
    assert len(find(one * 5000)) == 1000

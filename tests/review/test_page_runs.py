"""Text as it is shown: nothing lost between the pieces, nothing invisible left in them."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.review.page.runs import FIRST, Run, piece, runs, short

TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
HIDING = "\u200b\u2060\ufeff\u2028\u2029\0\x1b\x7f\x85\U000e0041\U000e0100"


def shown(found: list[Run]) -> str:
    return "".join(run.text for run in found if run.name is None)


@pytest.mark.parametrize("character", TURNING + HIDING)
def test_what_hides_or_turns_is_marked(character: str) -> None:
    found = runs(f"a{character}b")
    assert [run.text for run in found] == ["a", f"U+{ord(character):04X}", "b"]
    assert found[1].name == unicodedata.name(character, "control character").lower()


def test_every_format_and_control_character_is_marked_but_those_of_writing() -> None:
    spared = {"\n", "\t", "\u00ad", "\u200c", "\u200d"}
    every = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) in {"Cc", "Cf", "Zl", "Zp"}]
    assert len(every) > 200
    assert [c for c in every if c not in spared and runs(f"\u05d0{c}")[-1].name is None] == []


def test_joiners_are_spelling_in_some_scripts_and_hidden_in_others() -> None:
    for text in ("می\u200cخواهم", "क\u094d\u200dष", "👩\u200d💻", "co\u00adop", "♥\ufe0f", "a\tb\nc"):
        assert runs(text) == [Run(text)]
    assert [run.name is None for run in runs("pass\u200dword")] == [True, False, True]
    assert runs("\u200d")[0].name is not None
    assert [run.text for run in runs("می" + "\u200c" * 9)] == ["می", "U+200C ×9"]


def test_many_of_one_are_one_mark() -> None:
    assert runs("\0" * 1_000_000) == [Run("U+0000 ×1,000,000", "control character")]
    assert runs("") == []


def test_lines_may_end_in_either_way() -> None:
    assert runs("a\r\nb") == [Run("a\nb")]
    assert [run.text for run in runs("a\rb")] == ["a", "U+000D", "b"]


@given(st.text(st.sampled_from("ab \n\r\t\0\u202e\u200cא\U0001f469"), max_size=400), st.integers(1, 60))
def test_pieces_lose_nothing(text: str, length: int) -> None:
    read, start = "", 0
    while start is not None:
        found = piece(text, start, length)
        end = found.next if found.next is not None else len(text)
        assert end > start or not text
        assert end - start <= length
        assert found.runs == runs(text[start:end])
        read, start = read + text[start:end], found.next  # type: ignore[assignment]
    assert read == text


def test_a_piece_ends_at_a_blank_where_there_is_one_near() -> None:
    assert piece("word " * 3000).next == FIRST
    assert piece("a" * (FIRST - 3) + " " + "b" * 100).next == FIRST - 2
    assert piece("a" * 2_000_000).next == FIRST


@pytest.mark.parametrize("start", [-5, 3, 99])
def test_offsets_outside_the_text_give_what_there_is(start: int) -> None:
    assert shown(piece("abc", start).runs) == ("abc" if start < 0 else "")


def test_short_texts_are_cut_and_say_so() -> None:
    assert short("x" * 2_000)[-1] == Run("… (2,000 characters)")
    assert short("x") == [Run("x")]

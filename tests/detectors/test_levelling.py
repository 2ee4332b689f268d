from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.levelling import level, level_end, unspaced_share

WORDS = "the quick brown fox met 12 dogs, and they didn't run; so it slept. Then it woke up! Was that all?"


def test_example_of_the_module() -> None:
    text = "# A title\n\n- “One”  point — see https://example.org/x\n2. Another one, unfin"
    assert level(text) == b"a title ' one ' point see url another one , unfin ."


@pytest.mark.parametrize(
    "changed",
    [
        WORDS.replace(" ", "\n"),
        WORDS.replace(" ", "  \t"),
        WORDS.replace(". ", ".\r\n\r\n"),
        "   \n" + WORDS + "\n\n",
        WORDS.replace("'", "’"),
        WORDS.replace("quick", "**quick**"),
        "## " + WORDS,
        "> " + WORDS,
        "* " + WORDS,
        "• " + WORDS,
        "1. " + WORDS,
        WORDS.replace(" ", "\u00a0"),
        WORDS.replace("fox", "f\u200box"),
        WORDS.upper(),
        WORDS.replace("12", "34567"),
        WORDS.replace("fox met", "fox—met"),
        WORDS.replace("fox met", "fox -- met"),
        WORDS + " And this was never fini",
    ],
)
def test_layout_does_not_change_the_view(changed: str) -> None:
    assert level(changed) == level(WORDS)


def test_wording_does() -> None:
    assert level(WORDS.replace("brown", "red")) != level(WORDS)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=200))
def test_idempotent_and_safe_for_fasttext_on_any_text(text: str) -> None:
    once = level(text)
    assert level(once.decode()) == once
    assert not any(part in once for part in (b"\n", b"\0", b"  "))
    assert not any(token == b"</s>" or token.startswith(b"__label__") for token in once.split(b" "))


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="aA0 .,!?'\"-*#\n\r\t1)你好。，“”…—\ufeff\u200b", max_size=80))
def test_idempotent_on_dense_layout(text: str) -> None:
    assert level(level(text).decode()) == level(text)


def test_unspaced_scripts_become_characters() -> None:
    assert level("你好，世界。").decode() == "你 好 , 世 界 ."
    assert level("他用 Python 写。").decode() == "他 用 python 写 ."
    assert unspaced_share(level("你好世界你好世界")) > 0.8
    assert unspaced_share(level("Привет, мир")) == 0


def test_end_is_cut_only_in_the_second_half() -> None:
    assert level_end(b"one . two three four five six seven") == b"one . two three four five six seven ."
    assert level_end(b"one two three four five . six") == b"one two three four five ."


@pytest.mark.parametrize("text", ["", " \n", "\ud800", "\0\0", "#", "\u200b"])
def test_nothing_left(text: str) -> None:
    assert level(text) == b""


def test_no_quadratic_time() -> None:
    random.seed(1)
    hostile = [
        "." * 200_000,
        "0" * 200_000,
        " " * 200_000,
        "0 . " * 50_000,
        "\n1) " * 50_000,
        "’" * 100_000,
        "“.0 " * 50_000,
    ]
    for text in hostile:
        level(text)

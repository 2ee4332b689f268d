from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.repeats.paragraphs import paragraphs
from pipelines.repeats.trim import recurring, trim
from tests.neardup.support import tokens
from tests.repeats.support import hash_of, large, split, without

NOTICE = "We use cookies and other means."
LEGAL = "Alle Rechte vorbehalten, überall."
BODY = ["It rained all day in the old town.", "Nobody saw the second visitor leave."]


def cut(texts: list[str | None], boilerplate: list[str], least: int = 20) -> tuple[list[str], list[int], list[bool]]:
    column = large(texts)
    found = paragraphs(column, least)
    trimmed = trim(column, found, recurring(found, np.sort(np.array([hash_of(b) for b in boilerplate], np.uint64))))
    trimmed.texts.validate(full=True)
    new = trimmed.texts.to_pylist()
    sizes = [len((old or "").encode()) - len(text.encode()) for old, text in zip(texts, new, strict=True)]
    assert trimmed.bytes.tolist() == sizes
    return new, trimmed.paragraphs.tolist(), trimmed.whole.tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{NOTICE}\n{BODY[0]}", BODY[0]),
        (f"{BODY[0]}\n{NOTICE}", BODY[0]),
        (f"{BODY[0]}\n{NOTICE}\n", BODY[0]),
        (f"{BODY[0]}\n\n{NOTICE}\n\n{BODY[1]}", f"{BODY[0]}\n\n{BODY[1]}"),
        (f"{BODY[0]}\r\n\r\n{NOTICE}\r\n \t\r\n  {BODY[1]}\r\n", f"{BODY[0]}\r\n\r\n  {BODY[1]}\r\n"),
        (f"{NOTICE}\n\n{LEGAL}\n\n\n{BODY[0]}\n\n{LEGAL}\n{NOTICE}", BODY[0]),
        (f"{BODY[0]}  \u2029 \u2028\x85{NOTICE} \x85 ", f"{BODY[0]}  "),
        (f"{BODY[0]}\nMenu\n{NOTICE}\nHome", f"{BODY[0]}\nMenu\nHome"),
        (f"{BODY[0]} {NOTICE}", f"{BODY[0]} {NOTICE}"),
        (f"\n\n{BODY[0]}\n\n", f"\n\n{BODY[0]}\n\n"),
        (f"\n\n{NOTICE}\n\n{BODY[0]}\n\n", f"\n\n{BODY[0]}\n\n"),
    ],
)
def test_paragraphs_go_with_their_blank_lines(text: str, expected: str) -> None:
    assert cut([text], [NOTICE, LEGAL])[0] == [expected]


def test_a_text_of_boilerplate_alone_stays_whole() -> None:
    texts: list[str | None] = [NOTICE, f"{NOTICE}\n{LEGAL}\nby A. Writer\n", "", None, "by A. Writer", BODY[0]]
    new, counts, whole = cut(texts, [NOTICE, LEGAL])
    assert new == [text or "" for text in texts]
    assert counts == [0] * 6
    assert whole == [True, True, False, False, False, False]


def test_it_says_how_much_went() -> None:
    new, counts, whole = cut([f"{NOTICE}\n{BODY[0]}\n{NOTICE}\n{LEGAL}\n{BODY[1]}", BODY[0]], [NOTICE.upper(), LEGAL])
    assert new == [f"{BODY[0]}\n{BODY[1]}", BODY[0]]
    assert counts == [3, 0]
    assert whole == [False, False]


def test_no_hashes_cut_nothing_and_slices_are_read_where_they_are() -> None:
    assert cut([BODY[0]], [])[0] == [BODY[0]]
    assert cut([], [NOTICE])[0] == []
    column = pa.concat_arrays([large(["x", f"{NOTICE}\n{BODY[0]}", BODY[1]])]).slice(1, 1)
    found = paragraphs(column, 20)
    trimmed = trim(column, found, recurring(found, np.array([hash_of(NOTICE)], np.uint64)))
    assert trimmed.texts.to_pylist() == [BODY[0]]


LINES = st.sampled_from([NOTICE, LEGAL, *BODY, "Home", "", " ", "\t ", f"  {NOTICE.upper()} ", "漢字 かな" * 4])
BREAKS = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\u2028", "\u2029\n", "\x85", "\v", "\f"])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.tuples(LINES, BREAKS), max_size=8).map(lambda p: "".join(a + b for a, b in p)), max_size=5))
def test_agrees_with_plain_python(texts: list[str]) -> None:
    boilerplate = {tuple(tokens(NOTICE)), tuple(tokens(LEGAL))}
    new, counts, whole = cut(list(texts), [NOTICE, LEGAL])
    assert new == [without(text, boilerplate, 20) for text in texts]
    for old, text, count, left in zip(texts, new, counts, whole, strict=True):
        before, after = ([part[0] for part in split(t, 20)] for t in (old, text))
        assert after == (before if left else [part for part in before if part not in boilerplate])
        assert count == len(before) - len(after)
        assert bool(text) == bool(old)

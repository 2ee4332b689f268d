import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.provenance.anchors import Anchors

_FOLD = {c: c + 32 for c in range(65, 91)} | {10: " ", 9: " "}
# Few symbols, so that literals overlap, nest and share their windows; two of them need more than one byte.
_SYMBOLS = "abAB \n\té语\ue200"


def searched(literals: list[str], text: str) -> list[int]:
    """The oracle: each literal by itself, with the interpreter's own search."""
    plain = text.translate(_FOLD).encode("utf-8", "surrogatepass")
    return [at for at, literal in enumerate(literals) if literal.translate(_FOLD).encode() in plain]


@settings(max_examples=300)
@given(
    st.lists(st.text(_SYMBOLS, min_size=1, max_size=8).filter(lambda t: len(t.encode()) >= 4), max_size=40),
    st.text(_SYMBOLS + "\ud800\0", max_size=300),
)
def test_agrees_with_a_plain_search(literals: list[str], text: str) -> None:
    assert Anchors(literals).found(text) == searched(literals, text)


@given(st.lists(st.text(min_size=4, max_size=9), max_size=20), st.text(), st.data())
def test_finds_what_is_put_into_any_text(literals: list[str], text: str, data: st.DataObject) -> None:
    literals = [literal for literal in literals if literal.encode("utf-8", "replace").decode() == literal]
    for literal in literals:
        cut = data.draw(st.integers(0, len(text)))
        text = text[:cut] + literal + text[cut:]
    assert Anchors(literals).found(text) == searched(literals, text)


def test_anchor_at_both_ends_and_too_short_ones() -> None:
    assert Anchors(["oaicite", "abcd"]).found("oaicite") == [0]
    assert Anchors(["oaicite"]).found("oaicit") == []
    assert Anchors([]).found("x") == []
    assert Anchors(["abcd"]).found("\ud800abcd") == [0]
    with pytest.raises(ValueError, match="fewer than 4 bytes"):
        Anchors(["abc"])

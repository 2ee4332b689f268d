import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.provenance.locations import Clue, Location, Source, describe, read_location
from pipelines.provenance.markup import Shown


@given(
    st.sampled_from(["HTTP header", "markup", "text"]),
    st.none() | st.integers(0, 1 << 40),
    st.text(min_size=1, max_size=90),
    st.text(max_size=300),
)
def test_a_program_reads_what_it_says(layer: str, offset: int | None, what: str, value: str) -> None:
    known = Location(layer, offset if layer != "HTTP header" else None, what, value)  # type: ignore[arg-type]
    read = read_location(describe(known))
    assert read is not None
    assert read[:2] == known[:2]
    assert describe(read) == describe(known)


@pytest.mark.parametrize("detail", ["", "too short", "markup at x, y: z", "page at 3, y: z", "text at 3 y: z"])
def test_other_details_state_no_place(detail: str) -> None:
    assert read_location(detail) is None


def test_each_place_is_given_once() -> None:
    source, clue = Source("<a x=1>é<a x=2><a x=1>"), Clue("x", "a", "1")
    assert [source.find(clue) for _ in range(3)] == [0, 16, None]
    assert source.offset(16) == 15


@given(
    st.lists(st.sampled_from(["<pre>", "</pre>", "<!--", "-->", "<script>", "</script>", "é", "a", "<p>"]), max_size=20)
)
def test_what_shows_keeps_its_place(parts: list[str]) -> None:
    html = "".join(f"{part}{number}" for number, part in enumerate(parts))
    shown = Shown(html)
    assert all(html[shown.offset(at)] == character for at, character in enumerate(shown.text))
    offsets = [shown.offset(at) for at in range(len(shown.text))]
    assert offsets == sorted(set(offsets))

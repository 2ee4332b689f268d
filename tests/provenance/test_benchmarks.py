"""What the commands behind the documented tables compute, at places that are known in another way."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import beta

from benchmarks import leak_false_positives, mark_survival
from benchmarks.mark_survival import Column, Mark
from pipelines.provenance.signals import load_signals


@pytest.fixture(scope="module")
def columns() -> dict[str, Column]:
    return {column.name.split()[0]: column for column in reversed(mark_survival.columns())}


@pytest.fixture(scope="module")
def marks() -> dict[str, Mark]:
    return {mark.name.split(" ")[0]: mark for mark in mark_survival.marks()}


@pytest.mark.parametrize(
    ("extractor", "mark", "left"),
    [
        ("trafilatura", "U+200B", 0),
        ("trafilatura", "U+FEFF", 0),
        ("trafilatura", "U+202F", 0),
        ("trafilatura", "look-alike", 4),
        ("resiliparse", "U+200B", 4),
        ("NFKC", "ligature", 0),
        ("NFC", "ligature", 4),
        ("NFC", "combining", 0),
        ("NFKC", "U+00A0", 0),
        ("resiliparse", "two", 0),
        ("resiliparse", "comment", 0),
    ],
)
def test_survival(columns: dict[str, Column], marks: dict[str, Mark], extractor: str, mark: str, left: int) -> None:
    if extractor not in columns:
        pytest.skip(f"{extractor} is not installed")
    assert mark_survival.survival(marks[mark], columns[extractor])[0] == left


def test_the_check_of_the_page_sees_what_extraction_destroys(marks: dict[str, Mark]) -> None:
    assert mark_survival.found_kinds(marks["meta"]) == (["ai_generator"], [])
    assert mark_survival.found_kinds(marks["two"]) == ([], [])


def test_places_that_an_extractor_drops_do_not_count(marks: dict[str, Mark]) -> None:
    first = Column("first paragraph", lambda html: html.split("</p>")[0])
    assert mark_survival.survival(marks["U+200B"], first) == (1, 1)


def test_false_positives_are_counted_by_signal_and_group(tmp_path: Path) -> None:
    leak = "As an AI language model, I cannot say."
    rows = [("No.", "human"), (leak, "human"), (leak, "machine"), (f"“{leak}”", "machine")]
    for name in ("fastdetect", "undated"):
        columns = {
            "text": [t for t, _ in rows],
            "label": [k for _, k in rows],
            "domain": ["x"] * 4,
            "language": ["en"] * 4,
        }
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    (tmp_path / "page.html.gz").write_bytes(gzip.compress(b"<p>as shown contentReference[oaicite:1]"))
    measured = leak_false_positives.measure(sorted(tmp_path.glob("*.parquet")), [tmp_path / "page.html.gz"])
    assert [group.documents.total() for group in measured] == [2, 2, 1, 4]
    assert [group.hits["as-a-language-model"] for group in measured] == [1, 1, 0, 2]
    assert measured.pages.hits == {"oaicite": 1}
    signals = {signal.id: signal for signal in load_signals().leaks}
    expected = beta.ppf(0.975, 2, 2)
    assert leak_false_positives.bound(measured, signals["as-a-language-model"]) == pytest.approx(expected)
    assert signals["as-a-language-model"] in leak_false_positives.too_often(measured)
    assert signals["certainly-here-is"] not in leak_false_positives.too_often(measured)


def test_no_strong_signal_fires_too_often(shared: Path) -> None:
    measured = leak_false_positives.measure(
        [shared / "text" / f"{name}.parquet" for name in leak_false_positives.DATED],
        sorted((shared / "html_gold/html").glob("*.gz")),
    )
    assert measured.human.documents.total() > 10_000
    assert leak_false_positives.too_often(measured) == []


@pytest.fixture
def shared() -> Path:
    folder = Path(__file__).parents[2] / ".." / "shared"
    if not (folder / "text").is_dir():
        pytest.skip("no ../shared/text")
    return folder

"""The prior as a job names it: a table, a file, or an earlier output; wrong ones end in one line."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from pipelines import files
from pipelines.errors import UsageError
from pipelines.job import load_job
from pipelines.layout import Layout
from pipelines.statistics.prevalence import PREVALENCE


def prior_of(value: object) -> dict[str, float] | None:
    return load_job(None, {"fusion": {"prior": value}}).fusion.prior


def estimate(month: str, value: float | None, **other: Any) -> dict[str, Any]:
    row: dict[str, Any] = {field.name: None for field in PREVALENCE}
    row |= {field.name: 0 for field in PREVALENCE if not field.nullable and pa.types.is_integer(field.type)}
    row |= {"margin": "month", "month": month, "unit": "documents", "population": "deduplicated", "level": 0.95}
    return row | {"estimate": value, "too_few": False} | other


def write_output(folder: Path, rows: list[dict[str, Any]]) -> str:
    layout = Layout(str(folder))
    files.write_parquet(layout.statistics("prevalence"), pa.Table.from_pylist(rows, PREVALENCE))
    files.write_json(layout.summary, {})
    return str(folder)


def test_a_table_stands_in_the_job_or_in_a_file(tmp_path: Path) -> None:
    table = {"2025-01": 0.25, "2024-01": 0.1, "before_cutoff": 0.002}
    assert prior_of(table) == table
    path = tmp_path / "prior.yaml"
    path.write_text("2024-01: 0.1\n2025-01: 0.25\nbefore_cutoff: 0.002\n")
    assert prior_of(str(path)) == table
    assert prior_of(None) is None


def test_the_job_says_what_the_prior_was_and_not_where_it_lay(tmp_path: Path) -> None:
    path = tmp_path / "prior.yaml"
    path.write_text("2024-01: 0.1\n")
    job = load_job(None, {"fusion": {"prior": str(path)}})
    assert job.settings()["fusion"]["prior"] == {"2024-01": 0.1}
    assert type(job).model_validate(job.model_dump()).settings() == job.settings()


def test_an_earlier_output_gives_its_monthly_estimates(tmp_path: Path) -> None:
    rows = [
        estimate("2024-01", 0.1),
        estimate("2024-02", 0.0),
        estimate("2024-03", None),
        estimate("2024-04", 0.7, too_few=True),
        estimate("unknown", 0.3),
        estimate("2024-01", 0.9, population="crawled"),
        estimate("2024-01", 0.9, unit="characters"),
        estimate("2024-01", 0.9, margin="month×language", language="en"),
    ]
    assert prior_of(write_output(tmp_path / "out", rows)) == {"2024-01": 0.1, "2024-02": 0.001, "unknown": 0.3}


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"2024-13": 0.1}, "2024-13 is no month"),
        ({"2024": 0.1}, "2024 is no month"),
        ({2024: 0.1}, "2024 is no month"),
        ({"2024-01": 0}, "0 is no share between 0 and 1"),
        ({"2024-01": 1.0}, "1.0 is no share"),
        ({"2024-01": "a lot"}, "'a lot' is no share"),
        ({"2024-01": True}, "True is no share"),
        ({"2024-01": float("nan")}, "nan is no share"),
        ({}, "the table is empty"),
        ([0.1], "expected a table of months"),
        (0.1, "expected a table of months"),
        ("/nowhere", "neither a YAML file nor a finished output"),
    ],
)
def test_a_wrong_prior_ends_in_one_line_that_says_what_is_allowed(table: object, word: str) -> None:
    with pytest.raises(UsageError) as caught:
        prior_of(table)
    message = str(caught.value)
    assert "fusion.prior: " in message
    assert word in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["", "- 0.1", "2024-01: 0.1: 0.2", "2024-01-01: 0.2", "\x00"])
def test_a_file_that_holds_no_table(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prior.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"fusion\.prior"):
        prior_of(str(path))


def test_an_output_without_estimates(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no estimate for any month"):
        prior_of(write_output(tmp_path / "out", [estimate("unknown", 0.1), estimate("2024-01", None)]))


def test_other_keys_of_the_group() -> None:
    with pytest.raises(UsageError, match=r"fusion\.cap"):
        load_job(None, {}, ["fusion.cap=0"])
    with pytest.raises(UsageError, match="did you mean 'prior'"):
        load_job(None, {}, ["fusion.priors=x"])
    job = load_job(None, {}, ["fusion.prior={2024-05: 0.2}", "fusion.cap=2"])
    assert (job.fusion.prior, job.fusion.cap, job.fusion.enabled) == ({"2024-05": 0.2}, 2.0, True)
    assert yaml.safe_dump(job.settings())

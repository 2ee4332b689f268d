"""The audit's draw: its chances, its strata, what is written, and what is refused."""

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import JobError, UsageError
from pipelines.reserve.frame import _drawing_keys
from pipelines.review.draw import FLOOR, POOLED, Allocation, allocate, draw, expected_spread, pooled, stratum_table
from pipelines.review.make import Request, make_review
from pipelines.review.population import Population, kept_parts, read_population, stratifiers
from pipelines.review.records import TASKS, Folder, Stream
from tests.review.outputs import row, rows, write_output

CUTOFF = "2022-11-30"
COLUMNS = ("place", "month", "language", "host_class")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_output(tmp_path_factory.mktemp("out") / "out", rows(), parts=2, group=20)


def population_of(output: str, columns: tuple[str, ...] = COLUMNS, seed: str = "1") -> Population:
    return read_population(kept_parts(output), columns, seed, CUTOFF)


def reordered(population: Population, seed: str) -> Population:
    """The same population in the order of another seed."""
    order = np.argsort(_drawing_keys(population.ids, seed), kind="stable")
    return population._replace(
        **{name: getattr(population, name)[..., order] for name in Population._fields if name not in ("ids", "names")},
        ids=population.ids[order],
    )


def by_id(population: Population, rows: Any) -> list[str]:
    return [one.tobytes().hex() for one in population.ids[rows]]


def test_every_document_is_drawn_as_often_as_its_inclusion_probability_says(output: str) -> None:
    population = population_of(output)
    ids = sorted(by_id(population, slice(None)))
    number = {one: at for at, one in enumerate(ids)}
    rounds, counts, pairs = 600, np.zeros(len(ids)), 0
    chances = np.zeros(len(ids))
    for seed in range(rounds):
        mixed = reordered(population, str(seed))
        drawn = draw(mixed, 45, minimum=5)
        assert drawn.rows.size == len(set(drawn.rows.tolist())) == 45
        at = [number[one] for one in by_id(mixed, drawn.rows)]
        counts[at] += 1
        chances[[number[one] for one in by_id(mixed, slice(None))]] = drawn.probabilities[drawn.strata]
        pairs += {0, 1} <= set(at)
    assert len(np.unique(chances)) > 2  # not one chance for all
    z = (counts / rounds - chances) / np.sqrt(np.maximum(chances * (1 - chances), 1e-12) / rounds)
    inside = chances < 1
    assert (counts[~inside] == rounds).all()
    assert np.abs(z[inside]).max() < 4.5
    assert np.mean(z[inside] ** 2) == pytest.approx(1, abs=0.6)
    assert 0 < pairs < rounds


def test_in_a_stratum_the_smallest_digests_are_drawn(output: str) -> None:
    population = population_of(output, ("place",), "a seed")
    drawn = draw(population, 30, minimum=4)
    for stratum in range(3):
        all_ids = by_id(population, drawn.strata == stratum)
        expected = sorted(all_ids, key=lambda one: hashlib.sha256(b"a seed" + bytes.fromhex(one)).digest())
        assert by_id(population, drawn.rows[drawn.stratum == stratum]) == expected[: drawn.sampled[stratum]]


def test_a_larger_sample_of_the_same_strata_holds_the_smaller_one(output: str) -> None:
    population = population_of(output, ("place",))
    samples = [set(by_id(population, draw(population, n, minimum=2).rows)) for n in (10, 25, 60, 90)]
    assert all(a < b for a, b in itertools.pairwise(samples))
    assert len(samples[-1]) == population.size


def test_strata_partition_the_population_and_none_gives_too_few(output: str) -> None:
    population = population_of(output)
    for labels, minimum in ((30, 5), (60, 5), (80, 2), (90, 2)):
        strata, labels_of = pooled(population, labels, minimum)
        sizes = np.bincount(strata, minlength=len(labels_of))
        assert sizes.sum() == population.size
        assert (sizes > 0).all()
        assert len(set(labels_of)) == len(labels_of)
        for stratum, names in enumerate(labels_of):
            values = {population.labels(v.astype(np.int64)) for v in population.strata.T[strata == stratum]}
            depth = names.index(POOLED) if POOLED in names else len(names)
            assert depth >= 1  # the place is never pooled
            assert {one[:depth] for one in values} == {names[:depth]}
            assert depth == len(names) or set(names[depth:]) == {POOLED}
            # What is small was pooled as far as may be.
            assert sizes[stratum] * labels >= minimum * population.size or depth == 1
        drawn = draw(population, labels, minimum=minimum)
        assert (drawn.sampled >= np.minimum(drawn.sizes, minimum)).all()
        assert drawn.sampled.sum() == labels


def test_no_other_allocation_has_a_smaller_variance() -> None:
    random = np.random.default_rng(2)
    for _ in range(20):
        sizes, spreads = random.integers(2, 14, 3), random.uniform(0.1, 0.5, 3)
        total = int(random.integers(6, sizes.sum() + 1)) if sizes.sum() > 6 else 6
        given = allocate(sizes, spreads, total, 2)
        every = [
            one for one in itertools.product(*(range(2, size + 1) for size in sizes.tolist())) if sum(one) == total
        ]
        assert tuple(given.tolist()) in every
        variance = [float(((sizes * spreads) ** 2 / np.array(one)).sum()) for one in every]
        assert ((sizes * spreads) ** 2 / given).sum() <= min(variance) * (1 + 1e-12)


def test_a_greater_total_gives_no_stratum_less() -> None:
    sizes, spreads = np.array([100, 40, 7, 3]), np.array([0.1, 0.5, 0.3, 0.5])
    given = [allocate(sizes, spreads, total, 2) for total in range(8, 151)]
    assert all((b - a >= 0).all() for a, b in itertools.pairwise(given))
    assert given[-1].tolist() == sizes.tolist()
    for total in (7, 151):
        with pytest.raises(ValueError, match="documents"):
            allocate(sizes, spreads, total, 2)


def test_neyman_takes_more_where_the_output_is_less_sure(tmp_path: Path) -> None:
    documents = [
        row(n, "reserve" if n < 60 else "quarantine", machine_probability=0.01 if n < 60 else 0.5) for n in range(100)
    ]
    documents[0] = {**documents[0], "posterior": 0.9}
    population = population_of(write_output(tmp_path / "out", documents), ("place",))
    plain, neyman = (draw(population, 30, how, 5) for how in (Allocation.PROPORTIONAL, Allocation.NEYMAN))
    assert plain.labels == [("quarantine",), ("reserve",)]
    assert plain.sampled.tolist() == [12, 18]
    assert neyman.sampled[0] > 20
    first = np.sqrt((59 * 0.01 * 0.99 + 0.09) / 60)
    assert expected_spread(population, neyman.strata).tolist() == pytest.approx([0.5, max(first, FLOOR)], rel=1e-6)


def test_the_table_of_strata_has_the_sums_over_all_documents(output: str) -> None:
    population = population_of(output)
    drawn = draw(population, 40, minimum=5)
    table = stratum_table(population, drawn, COLUMNS)
    documents = {one["doc_id"]: one for one in rows()}
    for one in table:
        own = [documents[i] for i in by_id(population, drawn.strata == one["stratum"])]
        assert {d["place"] for d in own} == {one["place"]}
        scored = [
            (float(np.float32(d["machine_probability"])), d["cluster_size"])
            for d in own
            if d["machine_probability"] is not None
        ]
        assert (one["documents"], one["scored"]) == (len(own), len(scored))
        assert one["inclusion_probability"] == one["sampled"] / one["documents"]
        assert one["captures"] == sum(d["cluster_size"] for d in own)
        assert one["captures_squares"] == sum(d["cluster_size"] ** 2 for d in own)
        assert one["scored_captures"] == sum(c for _, c in scored)
        assert one["scored_captures_squares"] == sum(c**2 for _, c in scored)
        assert one["probability"] == pytest.approx(sum(p for p, _ in scored))
        assert one["probability_squares"] == pytest.approx(sum(p**2 for p, _ in scored))
        assert one["weighted_probability"] == pytest.approx(sum(c * p for p, c in scored))
        assert one["weighted_probability_squares"] == pytest.approx(sum((c * p) ** 2 for p, c in scored))
        assert one["weighted_probability_captures"] == pytest.approx(sum(c**2 * p for p, c in scored))


def test_a_review_holds_the_rows_as_they_are_and_their_chances(output: str, tmp_path: Path) -> None:
    plan = make_review(output, Request(labels=50, minimum=5, controls=8), str(tmp_path / "review"))
    folder = Folder(str(tmp_path / "review"))
    tasks = folder.read_tasks(Stream.AUDIT)
    assert tasks.schema == TASKS
    assert tasks["position"].to_pylist() == list(range(tasks.num_rows))
    documents = {one["doc_id"]: one for one in rows()}
    table = {one["stratum"]: one for one in plan["strata"]}
    truths = folder.read_controls()
    audited = [task for task in tasks.to_pylist() if task["task_id"] not in truths]
    assert len(audited) == 50 == sum(one["sampled"] for one in table.values())
    for task in audited:
        document, stratum = documents[task["task_id"]], table[task["stratum"]]
        for name in ("text", "text_sha256", "url", "host", "captured_at", "language", "place", "verdict"):
            assert task[name] == document[name]
        assert task["evidence"][0]["probability"] == pytest.approx(document["evidence"][0]["probability"])
        assert stratum["place"] == task["place"]
        assert stratum["month"] in (POOLED, f"{task['captured_at']:%Y-%m}")
        assert stratum["language"] in (POOLED, task["language"])
        assert task["inclusion_probability"] == stratum["sampled"] / stratum["documents"]
    assert all(task["stratum"] is None for task in tasks.to_pylist() if task["task_id"] in truths)
    assert plan["audit"]["labelled_twice"] == round(0.15 * tasks.num_rows)
    assert plan["audit"]["judgements"] == sum(tasks["annotators"].to_pylist())
    assert json.loads((tmp_path / "review/plan.json").read_text()) == plan
    for name, digest in plan["files"].items():
        assert hashlib.sha256((tmp_path / "review" / name).read_bytes()).hexdigest() == digest


def test_positions_and_second_annotators_do_not_follow_the_strata(output: str, tmp_path: Path) -> None:
    make_review(output, Request(labels=60, minimum=5, double=0.5, controls=0), str(tmp_path / "review"))
    tasks = Folder(str(tmp_path / "review")).read_tasks(Stream.AUDIT)
    strata, twice = np.array(tasks["stratum"].to_pylist()), np.array(tasks["annotators"].to_pylist()) == 2
    assert twice.sum() == 30
    assert np.diff(strata).min() < 0 < np.diff(strata).max()
    assert 0 < np.corrcoef(twice, np.arange(60))[0, 1] ** 2 < 0.2
    assert len({(s, t) for s, t in zip(strata.tolist(), twice.tolist(), strict=True)}) > len(set(strata.tolist()))


def test_the_same_bytes_for_any_lay_out_of_files(tmp_path: Path) -> None:
    documents = rows()
    made = tmp_path / "made.jsonl"
    made.write_text("".join(json.dumps({"text": f"made {number}"}) + "\n" for number in range(9)))
    request = Request(labels=40, minimum=4, active=12, controls=8, made=str(made), seed="7")
    written = []
    for at, (order, parts, group) in enumerate([(1, 1, 1000), (-1, 4, 7)]):
        output = write_output(tmp_path / f"{at}/out", documents[::order], parts, group, sealed=False)
        plan = make_review(output, request, str(tmp_path / f"{at}/review"))
        files = {path.name: path.read_bytes() for path in (tmp_path / f"{at}/review").iterdir()}
        assert set(files) == {"plan.json", "audit.parquet", "active.parquet", "controls.parquet"}
        files.pop("plan.json")
        plan["output"].pop("path")
        written.append((files, plan))
    assert written[0] == written[1]


def test_a_repeated_capture_is_one_document(tmp_path: Path) -> None:
    documents = rows(20, 5, 3)
    again = {**documents[3], "shard": "another", "record_offset": 5}
    output = write_output(tmp_path / "out", [*documents, again])
    assert population_of(output).size == len(documents)
    make_review(output, Request(labels=28, minimum=2), str(tmp_path / "review"))
    tasks = Folder(str(tmp_path / "review")).read_tasks(Stream.AUDIT)
    assert tasks["task_id"].to_pylist().count(again["doc_id"]) == 1
    assert tasks.num_rows == 28


def test_the_seed_is_the_root_of_the_documents_log_unless_one_is_given(output: str, tmp_path: Path) -> None:
    root = json.loads((Path(output) / "summary.json").read_text())["seal"]["root"]
    plan = make_review(output, Request(labels=40, minimum=5), str(tmp_path / "a"))
    assert (plan["seed"], plan["seed_from"]) == (root, "seal")
    assert plan["output"]["seal"]["size"] == len(rows()) + 1  # with the release
    given = make_review(output, Request(labels=40, minimum=5, seed=root), str(tmp_path / "b"))
    assert given["seed_from"] == "given"
    assert given["files"] == plan["files"]
    other = make_review(output, Request(labels=40, minimum=5, seed="x"), str(tmp_path / "c"))
    assert other["files"] != plan["files"]
    unsealed = write_output(tmp_path / "d/out", rows(20, 4, 2), sealed=False)
    plan = make_review(unsealed, Request(labels=20, minimum=2), str(tmp_path / "e"))
    assert (plan["seed"], plan["seed_from"], plan["output"]["seal"]) == ("0", "default", None)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"labels": 91}, "--labels 91: from 1 to 90"),
        ({"labels": 8}, "--labels 8: at least 26, 10 or all of each of 3 strata"),
        ({"stratify": ("colour",)}, "--stratify colour: one or more of place, month"),
        ({"stratify": ("month", "month")}, "stands there twice"),
        ({"double": 1.5}, "--double 1.5"),
        ({"active": -1}, "--active -1"),
        ({"controls": -1}, "--controls -1"),
        ({"margin": 0}, "--margin 0"),
        ({"minimum": 1}, "2 for a variance"),
        ({"labels": 40, "made": "x", "controls": 0}, "--made x"),
    ],
)
def test_what_cannot_be_drawn(output: str, tmp_path: Path, options: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        make_review(output, Request(**options), str(tmp_path / "review"))
    assert not (tmp_path / "review").exists()


def test_nothing_is_written_over_or_into_the_output(output: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="into which nothing else is written"):
        make_review(output, Request(labels=40), f"{output}/audit")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        make_review(output, Request(labels=40), str(tmp_path / "full"))
    with pytest.raises(UsageError, match="no finished run"):
        make_review(str(tmp_path / "full"), Request(labels=40), str(tmp_path / "review"))


def test_a_part_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    output = write_output(tmp_path / "out", rows(20, 4, 2), sealed=False)
    part = tmp_path / "out/quarantine/part-00000.parquet"
    part.write_bytes(part.read_bytes()[:200])
    with pytest.raises(JobError, match=r"quarantine/part-00000\.parquet: cannot be read"):
        make_review(output, Request(labels=20, minimum=2), str(tmp_path / "review"))
    part.unlink()
    table = pq.read_table(tmp_path / "out/reserve/part-00000.parquet")
    ids = pa.array(["no hex"] * table.num_rows)
    pq.write_table(table.set_column(0, table.schema.field(0), ids), tmp_path / "out/reserve/part-00000.parquet")
    with pytest.raises(JobError, match="doc_id"):
        population_of(output)


def test_the_place_is_always_a_stratum() -> None:
    assert stratifiers(["language", "place"]) == ("place", "language")
    assert stratifiers([]) == ("place",)

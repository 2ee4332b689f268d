from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from detectors import load_detector
from detectors.base import LANGUAGE, TOO_SHORT
from pipelines.inference import DetectorHandler, Scored, ScoreTexts, Text, one_copy
from tests.detectors.generated import sentence_text

EMBEDDED = "embedded"


@pytest.fixture(scope="module")
def texts() -> list[Text]:
    random = np.random.default_rng(3)
    words = random.integers(80, 900, 60).tolist()
    made = [Text(f"{row}", sentence_text(random, row % 2 == 1, count), "en") for row, count in enumerate(words)]
    return [*made, Text("short", "a few words", "en"), Text("other", made[0].text, "fr"), Text("empty", "", None)]


def scored(texts: Sequence[Text], step: ScoreTexts, tmp_path: Path) -> dict[str, Scored]:
    """What the transform gives on Beam's local runner, through a file as between processes."""
    out = tmp_path / "scored"
    with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions(["--direct_num_workers=1"])) as pipeline:
        found = pipeline | beam.Create(texts) | step
        found | beam.Map(lambda one: "\t".join(map(str, one))) | beam.io.WriteToText(str(out), shard_name_template="")
    rows = [line.split("\t") for line in out.read_text().splitlines()]
    assert len(rows) == len(texts)
    return {
        doc_id: Scored(doc_id, float(score), float(probability), None if reason == "None" else reason)
        for doc_id, score, probability, reason in rows
    }


def expected(texts: Sequence[Text], folder: str) -> dict[str, Scored]:
    scores = load_detector(folder).score([one.text for one in texts], [one.language for one in texts])
    both = zip(texts, scores.score.tolist(), scores.probability.tolist(), scores.abstained, strict=True)
    return {text.doc_id: Scored(text.doc_id, *rest) for text, *rest in both}


def same(one: dict[str, Scored], other: dict[str, Scored]) -> bool:
    def plain(found: dict[str, Scored]) -> dict[str, tuple[object, ...]]:
        return {key: tuple(None if part != part else part for part in row) for key, row in found.items()}

    return plain(one) == plain(other)


def test_the_transform_gives_the_detectors_own_scores(texts: list[Text], tmp_path: Path) -> None:
    found = scored(texts, ScoreTexts(EMBEDDED), tmp_path)
    assert same(found, expected(texts, EMBEDDED))
    assert [found[key].abstained for key in ("short", "other", "empty")] == [TOO_SHORT, LANGUAGE, TOO_SHORT]
    assert math.isnan(found["other"].probability)


def test_one_copy_for_a_machine_gives_the_same(texts: list[Text], tmp_path: Path) -> None:
    step = ScoreTexts(EMBEDDED, one_copy=True)
    assert same(scored(texts, step, tmp_path), expected(texts, EMBEDDED))


def test_a_shared_detector_is_a_detector(texts: list[Text]) -> None:
    shared, own = one_copy(EMBEDDED), load_detector(EMBEDDED)
    assert (shared.name, shared.digest, shared.error_rates()) == (own.name, own.digest, own.error_rates())
    both = [one.score([text.text for text in texts], [text.language for text in texts]) for one in (shared, own)]
    assert both[0].abstained == both[1].abstained
    assert np.array_equal(both[0].probability, both[1].probability, equal_nan=True)


_USER = """
import sys
from pipelines.inference import one_copy
shared = one_copy("embedded")
for line in sys.stdin:
    print(shared.score([line * 20], ["en"]).probability[0], flush=True)
"""


@pytest.mark.slow
def test_a_shared_detector_outlives_the_process_that_held_it(tmp_path: Path) -> None:
    def start() -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return subprocess.Popen(
            [sys.executable, "-c", _USER], text=True, env={**os.environ, "TMPDIR": str(tmp_path)}, **pipes
        )

    def ask(process: subprocess.Popen[str]) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("A harbour is a place where ships may shelter from the weather.\n")
        process.stdin.flush()
        return process.stdout.readline()

    first = start()
    try:
        expected = ask(first)
        assert 0 <= float(expected) <= 1
        second = start()
        try:
            assert ask(second) == expected
            first.kill()
            first.wait()
            assert ask(second) == expected
        finally:
            second.kill()
            second.wait()
    finally:
        first.kill()
        first.wait()


def test_a_folder_that_others_can_write_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / f"human-reserve-{os.getuid()}").mkdir(mode=0o777)
    (tmp_path / f"human-reserve-{os.getuid()}").chmod(0o777)
    with pytest.raises(PermissionError, match="not this user's alone"):
        one_copy(EMBEDDED)


def test_batches_hold_no_more_text_than_they_may() -> None:
    handler = DetectorHandler(EMBEDDED)
    limits = handler.batch_elements_kwargs()
    assert limits["element_size_fn"](Text("a", "", "en")) == 1
    assert limits["min_batch_size"] == limits["max_batch_size"] >= 100_000
    assert not handler.share_model_across_processes()
    assert DetectorHandler(EMBEDDED, one_copy=True).share_model_across_processes()
    assert handler.get_num_bytes([Text("a", "four", "en"), Text("b", "more", None)]) == 8

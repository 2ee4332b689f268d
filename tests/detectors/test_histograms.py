import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.base import ASSISTANTS, LEFT_OUT
from detectors.histograms import (
    BINS,
    CENTRES,
    EDGES,
    SCORES,
    SetHistograms,
    bin_of,
    histogram,
    probability_of,
    score_table,
    set_histograms,
)

probabilities = st.lists(st.floats(0, 1, width=32) | st.just(float("nan")), max_size=60)


def rows(**changed):
    columns = {
        "set": ["a", "a", "a", "a", "b"],
        "domain": ["d"] * 5,
        "language": ["en", "en", "en", "en", "zh"],
        "label": ["human", "machine", "machine", "machine", "human"],
        "group": ["1", "1", "1", "2", "3"],
        "assistant": [True, True, True, False, True],
        "log_odds": [-3.1, 0.1, 9.0, -0.1, 2.0],
        "tokens": [80] * 5,
    }
    return columns | changed


def test_bins_are_those_of_the_log_odds():
    assert bin_of(probability_of(CENTRES)).tolist() == list(range(BINS))
    assert bin_of(probability_of([-30, -8.2, 8.2, 30])).tolist() == [0, 0, BINS - 1, BINS - 1]
    assert bin_of([0.0, 0.5, np.nextafter(np.float32(0.5), np.float32(0)), 1.0]).tolist() == [0, 32, 31, BINS - 1]
    for value in np.random.default_rng(1).uniform(-7.9, 7.9, 500):
        if np.abs(EDGES - value).min() > 1e-3:  # further from an edge than float32 probabilities lie apart there
            assert bin_of(probability_of(value)) == np.searchsorted(EDGES, value) - 1


@given(probabilities, probabilities, probabilities)
def test_histograms_merge_like_their_texts(one, two, three):
    parts = [histogram(part) for part in (one, two, three)]
    assert np.array_equal((parts[0] + parts[1]) + parts[2], parts[2] + (parts[1] + parts[0]))
    assert np.array_equal(sum(parts), histogram([*three, *one, *two]))
    assert parts[0].sum() == np.count_nonzero(~np.isnan(one))


def test_sets_are_counted_by_kind_and_language():
    table = score_table(rows())
    assert table.schema == SCORES
    found = {(part.kind, part.set, part.language): part for part in set_histograms(table)}
    assert set(found) == {(kind, *of) for kind in (LEFT_OUT, ASSISTANTS) for of in (("a", "en"), ("b", "zh"))}
    whole, assistants = found[LEFT_OUT, "a", "en"], found[ASSISTANTS, "a", "en"]
    assert (sum(whole.machine), whole.machine_groups, sum(assistants.machine), assistants.machine_groups) == (
        3,
        2,
        2,
        1,
    )
    assert np.flatnonzero(whole.machine).tolist() == [31, 32, BINS - 1]
    assert whole.human == assistants.human
    assert (found[LEFT_OUT, "b", "zh"].machine_groups, sum(found[LEFT_OUT, "b", "zh"].machine)) == (0, 0)
    for part in found.values():
        assert SetHistograms.from_dict(part.to_dict()) == part


def test_odd_scores_are_named():
    with pytest.raises(ValueError, match="no column 'tokens'"):
        score_table({name: values for name, values in rows().items() if name != "tokens"})
    with pytest.raises(ValueError, match="label 'robot'"):
        score_table(rows(label=["human", "robot", "machine", "machine", "human"]))
    with pytest.raises(ValueError, match="NaN"):
        score_table(rows(log_odds=[np.nan, 0, 0, 0, 0]))
    with pytest.raises(ValueError, match="machine must hold 64 counts"):
        SetHistograms(LEFT_OUT, "a", "en", (0,) * BINS, (1,), 0, 1)
    assert set_histograms(pa.table({name: [] for name in SCORES.names}).cast(SCORES)) == ()

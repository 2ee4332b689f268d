import itertools

import numpy as np
import pyarrow as pa

from pipelines.statistics.panel.encode import pack, unpack
from pipelines.statistics.panel.packing import add_rows, pack_rows, pack_stretches, raise_rows
from pipelines.statistics.panel.vendi import vendi, vendi_each


def arrays():
    random = np.random.default_rng(0)
    for width in (7, 8, 15, 16, 31, 32, 62, 63):
        for share in (0.0, 0.05, 0.3, 0.7, 1.0):
            values = random.integers(-(2**width), 2**width - 1, (5, 90), np.int64, endpoint=True)
            yield np.where(random.random(values.shape) < share, values, 0)
    yield np.where(random.random((2, 70_000)) < 1e-3, 300, 0)
    yield np.zeros((3, 0), np.int64)


def test_many_arrays_are_packed_as_each_alone():
    for values in arrays():
        packed = pack_rows(values)
        assert packed.to_pylist() == [pack(row) for row in values]
        assert (add_rows(packed, np.arange(len(values)), np.zeros_like(values)) == values).all()
    values = np.arange(-30, 30)
    edges = np.array([0, 0, 7, 60])
    assert pack_stretches(values, edges).to_pylist() == [pack(values[a:b]) for a, b in itertools.pairwise(edges)]


def test_packed_arrays_are_added_and_raised_where_they_belong():
    random = np.random.default_rng(1)
    values = random.integers(-300, 300, (6, 40)) * (random.random((6, 40)) < 0.4)
    at = np.array([2, 0, 2, 2, 1, 0])
    packed = pa.concat_arrays([pack_rows(values[:4]), pack_rows(values[4:])])
    assert [unpack(one, (40,)).tolist() for one in packed.to_pylist()] == values.tolist()
    sums, highest = (
        add_rows(packed, at, np.zeros((3, 40), np.int64)),
        raise_rows(packed, at, np.zeros((3, 40), np.int64)),
    )
    for row in range(3):
        assert (sums[row] == values[at == row].sum(axis=0)).all()
        assert (highest[row] == np.maximum(values[at == row].max(axis=0), 0)).all()
    part = packed.slice(2, 3)
    assert (add_rows(part, np.zeros(3, np.int64), np.zeros((1, 40), np.int64))[0] == values[2:5].sum(axis=0)).all()


def test_vendi_scores_of_several_are_those_of_each():
    vectors = np.random.default_rng(2).integers(-127, 128, (4, 9, 64))
    outers = np.concatenate([vectors.transpose(0, 2, 1) @ vectors, np.zeros((1, 64, 64), np.int64)])
    np.testing.assert_allclose(vendi_each(outers), [vendi(one) for one in outers], rtol=1e-12)

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_jobs.embedding_shards import (
    ENCODED,
    EncoderRecord,
    finish_shards,
    finished_shards,
    normalise,
    read_shard,
    write_embeddings,
    write_shard,
)

ENCODER = EncoderRecord(name="n", source="s", sha256="0" * 64, width=3, precision="fp32", input_size=8)


class Encode:
    """Row r becomes (r, r, r); ends with KeyboardInterrupt at the shard that starts at `stop_at`."""

    def __init__(self, stop_at=None):
        self.starts, self.stop_at = [], stop_at

    def __call__(self, start, stop, advance):
        if start == self.stop_at:
            raise KeyboardInterrupt
        self.starts.append(start)
        advance(stop - start)
        rows = np.arange(start, stop, dtype=np.float32)
        return np.repeat(rows[:, None], 3, axis=1), np.full(stop - start, 1, np.int8)


def run(scratch, encode, rows=10, size=4):
    finish_shards(scratch, rows, width=3, shard_size=size, label="test", encode=encode)
    shards = list(finished_shards(scratch, rows, width=3, shard_size=size))
    vectors = np.concatenate([np.zeros((0, 3), np.float32), *(found for _, found, _ in shards)])
    return vectors, np.concatenate([np.zeros(0, np.int8), *(states for _, _, states in shards)])


def test_a_stopped_run_goes_on_where_it_stopped(tmp_path):
    first = Encode(stop_at=8)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, first)
    second = Encode()
    vectors, status = run(tmp_path, second)
    assert (first.starts, second.starts) == ([0, 4], [8])
    np.testing.assert_array_equal(vectors[:, 0], np.arange(10))
    assert status.tolist() == [1] * 10


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 half a zip", None])
def test_a_damaged_shard_is_made_again(tmp_path, damage):
    run(tmp_path, Encode())
    shard = tmp_path / "shard-00001.npz"
    shard.write_bytes(shard.read_bytes()[:200] if damage is None else damage)
    again = Encode()
    vectors, _ = run(tmp_path, again)
    assert again.starts == [4]
    np.testing.assert_array_equal(vectors[:, 2], np.arange(10))


def test_a_shard_of_another_shape_is_made_again(tmp_path):
    write_shard(tmp_path / "shard-00000.npz", np.zeros((4, 2), np.float32), np.zeros(4, np.int8))
    assert read_shard(tmp_path / "shard-00000.npz", 4, 3) is None
    assert read_shard(tmp_path / "shard-00000.npz", 4, 2) is not None


def test_no_rows_need_no_encoder(tmp_path):
    encode = Encode()
    vectors, status = run(tmp_path, encode, rows=0)
    assert (vectors.shape, status.shape, encode.starts) == ((0, 3), (0,), [])


def test_written_table_points_items_to_rows_and_masks_the_rest(tmp_path):
    rows = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    shards = [(0, rows[:1], np.ones(1, np.int8)), (1, rows[1:], np.ones(1, np.int8))]
    status = write_embeddings(tmp_path, shards, np.array([1, -1, 0, 1]), ENCODER)
    present = status == ENCODED
    table = np.load(tmp_path / "vectors.npy", allow_pickle=False)
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table, [[0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0]])
    assert present.tolist() == np.load(tmp_path / "present.npy").tolist() == [True, False, True, True]
    assert json.loads((tmp_path / "encoder.json").read_text())["width"] == 3


@given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3), min_size=1, max_size=8))
def test_normalised_rows_have_length_one_or_zero(rows):
    vectors = np.asarray(rows, np.float32)
    length = np.linalg.norm(normalise(vectors).astype(np.float64), axis=1)
    expected = np.linalg.norm(vectors, axis=1) > 0
    np.testing.assert_allclose(length, expected.astype(float), atol=1e-5)

"""A shop's own nearest items, by item_row; a file that is something else is refused by name."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from offline_jobs.given_graphs import given_graphs
from service.errors import DataError

IDS = ["0", "10", "2", "3", "stranger"]  # as items.parquet is sorted: item_row 1 is the item of row 10


def items(folder: Path) -> Path:
    pl.DataFrame({"item_id": IDS}).write_parquet(folder / "items.parquet")
    return folder / "items.parquet"


def arrays(**changed: np.ndarray) -> dict[str, np.ndarray]:
    near = np.array([[r, (r + 1) % 11, (r + 10) % 11, 10] for r in range(11)], np.int32)
    cosine = np.array([[1.0, 0.5, 0.7, 0.9]] * 11, np.float32)
    return {"text_nbr": near, "text_cos": cosine, "image_nbr": near, "image_cos": cosine} | changed


def test_rows_become_item_rows_nearest_first_and_no_item_is_its_own_neighbour(tmp_path: Path) -> None:
    np.savez(tmp_path / "given.npz", **arrays())
    graphs = given_graphs(tmp_path / "given.npz", items(tmp_path))
    assert set(graphs) == {"text_knn", "image_knn"}
    graph = graphs["text_knn"]
    # Item 2 (item_row 2): its neighbours are 3 (.5), 1, whom the shop does not have, and 10 (.9), which is item_row 1.
    assert graph.neighbors[2].tolist() == [1, 3, -1, -1]
    np.testing.assert_allclose(graph.weights[2], [0.9, 0.5, 0, 0])
    # Item 10 names 0 (.5), 9, and itself twice.
    assert graph.neighbors[1].tolist() == [0, -1, -1, -1]
    assert graph.neighbors[4].tolist() == [-1] * 4


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"text_cos": np.ones((11, 3), np.float32)}, "do not fit"),
        ({"text_nbr": np.full((11, 4), 11)}, "do not fit"),
        ({"image_cos": np.full((11, 4), np.nan)}, "do not fit"),
        ({"image_nbr": np.ones((11, 4))}, "do not fit"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, changed: dict[str, np.ndarray], said: str) -> None:
    np.savez(tmp_path / "given.npz", **arrays(**changed))
    with pytest.raises(DataError, match=said):
        given_graphs(tmp_path / "given.npz", items(tmp_path))


def test_another_file_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "given.npz").write_text("no archive")
    with pytest.raises(DataError, match=r"given\.npz: cannot be read"):
        given_graphs(tmp_path / "given.npz", items(tmp_path))
    np.savez(tmp_path / "given.npz", text_nbr=np.zeros((2, 2), int))
    with pytest.raises(DataError, match="no array text_cos"):
        given_graphs(tmp_path / "given.npz", items(tmp_path))
    np.savez(tmp_path / "given.npz", **arrays())
    pl.DataFrame({"item_id": ["a", "b"]}).write_parquet(tmp_path / "items.parquet")
    with pytest.raises(DataError, match="no item has a row"):
        given_graphs(tmp_path / "given.npz", tmp_path / "items.parquet")

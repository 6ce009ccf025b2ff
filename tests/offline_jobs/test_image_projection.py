import numpy as np
import pytest

from offline_jobs.embedding_shards import normalise
from offline_jobs.image_projection import PRIOR, fit_projection, load_projection


def pictures(count, features=24, seed=0):
    """Unit rows around a common direction, spread far more along some axes than along others."""
    rng = np.random.default_rng(seed)
    rows = 3 + rng.standard_normal((count, features)) * np.linspace(2, 0.2, features)
    return normalise(rows.astype(np.float32))


def test_it_is_a_centred_pca_whose_axes_are_half_as_unequal():
    rows = pictures(100_000)
    projection = fit_projection([rows[:30_000], rows[30_000:]], 24, 8)
    x = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    values = np.linalg.svd(x, compute_uv=False)[:8] ** 2 / len(x)
    y = (rows - projection.mean) @ projection.matrix
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=2e-3)
    covariance = np.cov(y.T)
    np.testing.assert_allclose(np.diag(covariance), np.sqrt(values * values[0]), rtol=0.02)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-2 * covariance[0, 0])
    assert np.allclose(np.linalg.norm(projection(rows), axis=1), 1, atol=1e-5)


def test_zero_rows_stay_zero_and_length_does_not_matter():
    rows = pictures(500)
    projection = fit_projection([np.concatenate([rows, np.zeros((50, 24), np.float32)])], 24, 8)
    np.testing.assert_array_equal(projection.matrix, fit_projection([rows], 24, 8).matrix)
    assert not projection(np.zeros((3, 24), np.float32)).any()
    np.testing.assert_allclose(projection(7 * rows), projection(rows), atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_a_handful_of_pictures_is_not_turned_into_corners(count):
    """Where there is little to learn: unit rows, alike ones still alike, and what resembles still resembles."""
    assert count < PRIOR / 10
    rows = np.repeat(pictures(max(count, 1), 1280), 2, axis=0)[: 2 * count]
    projection = fit_projection([rows], 1280, 512)
    found = projection(rows)
    assert found.shape == (2 * count, 512)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-4)
    np.testing.assert_allclose((found[::2] * found[1::2]).sum(axis=1), 1, atol=1e-4)
    assert (found @ found.T > 0.3).all()


def test_same_pictures_same_bytes_and_it_comes_back_from_disk(tmp_path):
    rows = pictures(300)
    first, second = fit_projection([rows], 24, 8), fit_projection([rows], 24, 8)
    assert first.matrix.tobytes() == second.matrix.tobytes()
    first.save(tmp_path / "projection.npz")
    np.testing.assert_array_equal(load_projection(tmp_path / "projection.npz")(rows), first(rows))

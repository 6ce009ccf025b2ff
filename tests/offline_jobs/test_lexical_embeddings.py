"""The words themselves as vectors: likeness by shared terms, nothing for an item without text."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from offline_jobs.lexical_embeddings import LexicalEmbeddingSettings, embed, run_lexical_embeddings
from service.errors import StageError
from training.stage import StageRecord

TEXTS = ["red wool scarf", "red wool hat", "blue steel kettle", "blue steel pan", "", "red wool scarf", "zzz"]


def test_texts_that_share_words_are_near_and_others_are_not() -> None:
    vectors, terms = embed(TEXTS, LexicalEmbeddingSettings(dim=4))
    likeness = vectors @ vectors.T
    assert terms >= 4
    assert likeness[0, 1] > 0.6
    assert likeness[2, 3] > 0.6
    assert abs(likeness[0, 2]) < 0.1
    np.testing.assert_array_equal(vectors[0], vectors[5])


def test_an_item_without_known_terms_has_a_zero_row() -> None:
    vectors, _ = embed(TEXTS, LexicalEmbeddingSettings(dim=4))
    assert not vectors[4].any()
    assert not vectors[6].any()  # a word that only one text has says nothing about likeness
    np.testing.assert_allclose(np.linalg.norm(vectors[[0, 1, 2, 3, 5]], axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("texts", [[], ["", ""], ["one", "two"], ["same", "same"]])
def test_texts_that_hold_nothing_to_reduce_give_zeros_and_not_an_error(texts: list[str]) -> None:
    vectors, _ = embed(texts, LexicalEmbeddingSettings(dim=4))
    assert vectors.shape == (len(texts), 4)
    assert np.isfinite(vectors).all()


def test_the_stage_follows_the_items(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="'ingest' has not run"):
        run_lexical_embeddings(LexicalEmbeddingSettings(), tmp_path)
    ingest = tmp_path / "ingest"
    ingest.mkdir()
    columns = {"title": TEXTS, "description": None, "brand": None, "category": None}
    pl.DataFrame({"item_id": [str(i) for i in range(len(TEXTS))], **columns}).write_parquet(ingest / "items.parquet")
    record = StageRecord(
        name="ingest", version=1, fingerprint="", settings={}, inputs={}, outputs={}, output_digest="",
        wall_seconds=0, peak_rss_mib=0, counts={},
    )  # fmt: skip
    (ingest / "stage.json").write_text(record.model_dump_json())
    run_lexical_embeddings(LexicalEmbeddingSettings(dim=4), tmp_path)
    vectors = np.load(tmp_path / "lexical_embeddings" / "vectors.npy")
    np.testing.assert_array_equal(vectors, embed(TEXTS, LexicalEmbeddingSettings(dim=4))[0])


def test_fitted_on_a_part_of_the_items_the_neighbours_stay() -> None:
    """Four themes of words: half of the items show the same directions as all."""
    rng = np.random.default_rng(0)
    theme = rng.integers(0, 4, 400)
    texts = [" ".join(f"theme{t}word{n}" for n in rng.integers(0, 12, 8)) for t in theme]
    vectors, _ = embed(texts, LexicalEmbeddingSettings(dim=4, fit_items=100))
    nearest = np.argsort(-(vectors @ vectors.T) + 2 * np.eye(400), axis=1)[:, :10]
    assert (theme[nearest] == theme[:, None]).mean() > 0.98

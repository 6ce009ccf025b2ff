"""The fast table holds what scikit-learn's vectorizer makes of the same texts, whatever the blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from offline_jobs import lexical_terms
from offline_jobs.lexical_terms import tfidf

WORDS = ["red", "Red", "wool", "kettle", "steel", "blue", "a", "b", "x1", "größe", "日本", "pan"]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), min_size=2, max_size=30)


def sklearn_table(texts, **settings):
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, dtype=np.float32, **settings)
    try:
        return vectorizer.fit_transform(texts).toarray()
    except ValueError:  # no term is left
        return np.zeros((len(texts), 0), np.float32)


def columns(table):
    """The columns in an order of their own values, since the two number the terms differently."""
    return table[:, np.lexsort(table.round(4))]


@given(TEXTS)
@settings(deadline=None)
def test_the_weights_are_scikit_learns(texts):
    np.testing.assert_allclose(columns(tfidf(texts, 1000).toarray()), columns(sklearn_table(texts)), atol=1e-5)


def test_the_blocks_leave_no_trace(monkeypatch):
    rng = np.random.default_rng(0)
    texts = [" ".join(f"word{n}" for n in rng.zipf(1.5, 12) % 60) for _ in range(90)]
    whole = tfidf(texts, 80)
    assert whole.shape == (90, 80)
    monkeypatch.setattr(lexical_terms, "BLOCK", 7)
    assert (tfidf(texts, 80) != whole).nnz == 0


def test_the_most_frequent_terms_are_kept():
    texts = ["red wool", "red wool", "red steel", "blue pan", "blue pan", "red"]
    table = tfidf(texts, 1).toarray()
    np.testing.assert_array_equal(table[:, 0], [1, 1, 1, 0, 0, 1])


@pytest.mark.parametrize("texts", [[], [""], ["one", "two"]])
def test_texts_without_a_shared_term_have_an_empty_table(texts):
    assert tfidf(texts, 10).shape == (len(texts), 0)

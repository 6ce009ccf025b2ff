"""Texts as a sparse table of TF-IDF weights over words and word pairs, at any size: a word is a 64-bit number.

What scikit-learn's TfidfVectorizer makes of the same texts (`ngram_range=(1, 2), min_df=2, sublinear_tf=True,
max_features=...`), but for the order of columns; there every term of half a million texts is a Python string in a
dictionary, here no term is held as text. That two terms share a number is less likely than a broken disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

WORD = r"\w\w+"
MIN_TEXTS = 2
"""A term that fewer texts have says nothing about likeness."""
BLOCK = 32_768
"""Texts at once."""
PAIR = np.uint64(0x9E3779B97F4A7C15)
"""An odd number: first word times it plus second word numbers the pair, and order counts."""

COUNTS = pl.Schema({"term": pl.UInt64, "df": pl.UInt32, "tf": pl.UInt32})

Terms = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Words:
    """The words of some texts, one after the other: `terms` (words,), and `text` (words,) int32, ascending."""

    terms: Terms
    text: npt.NDArray[np.int32]

    def pairs(self) -> Words:
        """Neighbours within a text, neither of which is left out."""
        both = (self.text[1:] == self.text[:-1]) & (self.terms[:-1] != 0) & (self.terms[1:] != 0)
        return Words((self.terms[:-1] * PAIR + self.terms[1:])[both], self.text[1:][both])

    def of(self, known: Terms) -> Words:
        """Without the words that are not among `known` (sorted): their neighbours do not become a pair."""
        return Words(np.where(_found(self.terms, known), self.terms, np.uint64(0)), self.text)


def tfidf(texts: Sequence[str], max_terms: int) -> sparse.csr_matrix:
    """Unit rows, float32 (texts, terms): at most `max_terms` terms, the most frequent first; zero rows without any."""
    blocks = [_words(texts[start : start + BLOCK]) for start in range(0, len(texts), BLOCK)]
    words = _counted(blocks, pairs=False)
    known = np.sort(words["term"].to_numpy())
    chosen = pl.concat([words, _counted((block.of(known) for block in blocks), pairs=True)])
    chosen = chosen.sort(["tf", "term"], descending=[True, False]).head(max_terms).sort("term")
    terms = chosen["term"].to_numpy()
    idf = (np.log((1 + len(texts)) / (1 + chosen["df"].to_numpy())) + 1).astype(np.float32)
    sizes = [min(BLOCK, len(texts) - start) for start in range(0, len(texts), BLOCK)]
    rows = [_weights(block, size, terms, idf) for block, size in zip(blocks, sizes, strict=True)]
    return sparse.vstack(rows, format="csr") if rows else sparse.csr_matrix((0, 0), dtype=np.float32)


def _words(texts: Sequence[str]) -> Words:
    found = pl.DataFrame({"word": pl.Series(texts, dtype=pl.String).str.to_lowercase().str.extract_all(WORD)})
    found = found.with_row_index("text").explode("word").drop_nulls()
    # the last bit is set so that no word is 0, which stands for a word that is left out
    return Words(found["word"].hash(seed=0).to_numpy() | np.uint64(1), found["text"].to_numpy().astype(np.int32))


def _counted(blocks: Iterable[Words], *, pairs: bool) -> pl.DataFrame:
    """Each term of at least MIN_TEXTS texts: `df`, texts that have it, and `tf`, how often it occurs."""
    counted = [pl.DataFrame(schema=COUNTS)]
    for block in blocks:
        given = block.pairs() if pairs else block
        counts = _frequencies(given).group_by("term").agg(df=pl.len(), tf=pl.col("tf").sum())
        counted.append(counts.cast(COUNTS))
    total = pl.concat(counted).group_by("term").agg(pl.col("df").sum(), pl.col("tf").sum())
    return total.filter((pl.col("df") >= MIN_TEXTS) & (pl.col("term") != 0)).cast(COUNTS)


def _frequencies(words: Words) -> pl.DataFrame:
    """How often each text has each of its terms: columns text, term, tf."""
    return pl.DataFrame({"text": words.text, "term": words.terms}).group_by("text", "term").agg(tf=pl.len())


def _weights(words: Words, size: int, terms: Terms, idf: npt.NDArray[np.float32]) -> sparse.csr_matrix:
    parts = list(_kept(words, terms))
    table = pl.concat([_frequencies(part) for part in parts]).sort("text", "term")
    column = np.searchsorted(terms, table["term"].to_numpy()).astype(np.int32)
    weight = (1 + np.log(table["tf"].to_numpy())).astype(np.float32) * idf[column]
    starts = np.searchsorted(table["text"].to_numpy(), np.arange(size + 1)).astype(np.int32)
    lengths = np.sqrt(np.add.reduceat(np.append(weight**2, np.float32(0)), starts[:-1]) if size else np.zeros(0))
    lengths = np.repeat(lengths, np.diff(starts))
    return sparse.csr_matrix((weight / lengths, column, starts), shape=(size, len(terms)))


def _kept(words: Words, terms: Terms) -> Iterator[Words]:
    for part in (words, words.pairs()):
        kept = _found(part.terms, terms)
        yield Words(part.terms[kept], part.text[kept])


def _found(values: Terms, known: Terms) -> npt.NDArray[np.bool_]:
    """Which values are among `known`, which is sorted."""
    if not len(known):
        return np.zeros(len(values), np.bool_)
    return np.equal(known[np.minimum(np.searchsorted(known, values), len(known) - 1)], values)

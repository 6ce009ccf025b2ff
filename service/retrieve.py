"""Stage: the nearest items to a shopper, without those already seen. The only stage that knows FAISS.

Items that came after publishing are not in the index: they lie in a small table beside it and are compared one by one.
With a filter, either all that passes is compared, or the index is asked for more than is wanted and what does not pass
is dropped (`service/filter_plan.py`). Where that finds too few after all, all that passes is compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import faiss
import numpy as np
import numpy.typing as npt

from service.bundle.native import read_index
from service.bundle.reader import Bundle
from service.domain import Candidates
from service.errors import BundleForeignError, ModelError
from service.filter_plan import NEARLY_ALL, Asked, IndexCost, Passing, Plan, fetch

__all__ = ["Passing", "Plan", "Retriever"]

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int32]

BLOCK = 1024
"""Rows gathered at once for several shoppers: half a megabyte of vectors stays in the processor's cache."""
MOST_SCORES = 1 << 24
"""Scores that a scan for several shoppers holds at once: 64 MiB."""


class Retriever:
    """Inner-product search in the bundle's index, on one thread: the service scales by processes.

    In all searches `exclude` (S,) are distinct rows, ascending; `live_vectors` (M, dim) are the items that came after
    publishing, as rows N to N + M - 1; a `passing` beside them has N + M rows.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._index = read_index(bundle.index_path)
        described = bundle.manifest.index
        if described.ef_search is not None:  # search as deep as the recall in the manifest was measured at
            try:
                faiss.ParameterSpace().set_index_parameter(self._index, "efSearch", described.ef_search)
            except RuntimeError as error:
                raise BundleForeignError(
                    f"the manifest gives a search depth, but the index ({described.factory}) has none",
                    where=str(bundle.index_path),
                    todo="Publish the bundle again",
                ) from error
        self._vectors = bundle.item_vectors
        self._is_graph = isinstance(self._index, faiss.IndexHNSW)
        self._cost = IndexCost(described.ef_search or 0, is_exact=isinstance(self._index, faiss.IndexFlat))
        self._usual_count = bundle.manifest.num_candidates

    def plan(self, passing: Passing | None) -> Plan:
        """How items that pass are searched for at first."""
        if passing is None:
            return Plan.INDEX
        fetched = fetch(self._usual_count, passing.share)
        return Plan.POST_FILTER if self._cost.is_worth(fetched, passing) else Plan.EXACT

    def search(
        self,
        vector: Floats,
        count: int,
        *,
        at_least: int,
        exclude: Rows,
        passing: Passing | None = None,
        live_vectors: Floats | None = None,
    ) -> Candidates:
        """The `count` items with the largest inner product with `vector` (dim,) that pass, none of them in `exclude`.

        With a filter, `count` are found wherever so many pass. Without one an approximate index may find fewer, and
        `at_least` are found wherever so many are left. Raises ModelError where FAISS fails or the vector is not finite.
        """
        return self.search_many(
            vector[None], count, at_least=at_least, exclude=[exclude], passing=passing, live_vectors=live_vectors
        )[0]

    def search_many(
        self,
        vectors: Floats,
        count: int,
        *,
        at_least: int,
        exclude: Sequence[Rows],
        passing: Passing | None = None,
        live_vectors: Floats | None = None,
    ) -> list[Candidates]:
        """`search` for several shoppers: `vectors` (b, dim), and the rows to exclude for each. One FAISS call for all.

        Raises ModelError.
        """
        if not np.isfinite(vectors).all():
            raise ModelError("the vector of a shopper is not finite", where="retrieve")
        asked = self._asked(count, at_least, passing, live_vectors)
        # A long past is mostly far from the shopper's taste of today: room for a part of it, and more where needed.
        longest = max(map(len, exclude), default=0)
        wanted = min(fetch(count + min(longest, count), asked.share), len(self._vectors))
        if self.plan(passing) is Plan.EXACT or not self._cost.is_worth(wanted, passing):
            return self._scan(vectors, exclude, asked)
        rows, scores = self._search(vectors, wanted, asked)
        return [
            self._completed(vector, _kept(rows[i], scores[i], exclude[i], passing), wanted, exclude[i], asked)
            for i, vector in enumerate(vectors)
        ]

    def exact(
        self,
        vector: Floats,
        count: int,
        *,
        exclude: Rows,
        passing: Passing | None = None,
        live_vectors: Floats | None = None,
    ) -> Candidates:
        """What `search` should find: everything compared, equals in order of rows. Some 20 ms at 500 K items."""
        return self._scan(vector[None], [exclude], self._asked(count, 0, passing, live_vectors))[0]

    def _asked(self, count: int, at_least: int, passing: Passing | None, live_vectors: Floats | None) -> Asked:
        faiss.omp_set_num_threads(
            1
        )  # holds for the thread that says so, and a bundle is opened in another than it serves
        num_rows = len(self._vectors) + (0 if live_vectors is None else len(live_vectors))
        assert passing is None or len(passing.mask) == num_rows, "a mask and live vectors of different moments"
        return Asked(count, at_least, passing, live_vectors)

    def _completed(self, vector: Floats, found: Candidates, wanted: int, exclude: Rows, asked: Asked) -> Candidates:
        """What the index found for one shopper, made up to what was asked for, and the new items among it.

        Excluded items are searched for and dropped: a selector inside HNSW costs more, and FAISS has returned
        excluded ids through one (issue 5504).
        """
        n = len(self._vectors)
        while len(found.rows) < asked.count:
            if asked.passing is None:
                wider = min(2 * wanted, asked.count + len(exclude), n)
            else:  # more or fewer pass near this shopper than anywhere, and what was found says how many
                wider = min(max(2 * wanted, fetch(asked.count, (len(found.rows) + 1) / wanted)), n)
            if wider <= wanted or not self._cost.is_worth(wider, asked.passing):
                break
            wanted = wider
            labels, nearness = self._search(vector[None], wanted, asked)
            found = _kept(labels[0], nearness[0], exclude, asked.passing)
        needed = asked.at_least if asked.share >= NEARLY_ALL else asked.count
        if len(found.rows) < needed and len(found.rows) < asked.left(n, exclude):
            # Nothing is reached beyond the graph's connected part, nor what lies deeper than it is worth to look.
            return self._scan(vector[None], [exclude], asked)[0]
        if asked.live_vectors is not None:
            found = self._with_new(found, asked.live_vectors, vector, exclude, asked)
        return Candidates(found.rows[: asked.count], found.scores[: asked.count])

    def _with_new(
        self, found: Candidates, live_vectors: Floats, vector: Floats, exclude: Rows, asked: Asked
    ) -> Candidates:
        """What was found in the index, and the new items that stand before the last of it."""
        n = len(self._vectors)
        new = asked.rows(n, first=n)
        live = _kept(new, (live_vectors @ vector)[new - n], exclude, None)
        if len(found.rows) >= asked.count:
            nearer = live.scores > found.scores[asked.count - 1]
            live = Candidates(live.rows[nearer], live.scores[nearer])
        if not len(live.rows):
            return found
        rows, scores = np.concatenate([found.rows, live.rows]), np.concatenate([found.scores, live.scores])
        order = np.argsort(-scores, kind="stable")
        return Candidates(rows[order], scores[order])

    def _search(self, vectors: Floats, wanted: int, asked: Asked) -> tuple[npt.NDArray[np.int64], Floats]:
        """(b, wanted) rows and scores, best first, as FAISS finds them: row -1 where it found fewer."""
        params = None
        if asked.passing is not None and self._is_graph:
            depth = self._cost.depth(wanted, asked.share)
            params = faiss.SearchParametersHNSW(efSearch=depth)  # type: ignore[attr-defined]
        try:
            scores, labels = self._index.search(vectors, wanted, params=params)
        except RuntimeError as error:
            raise ModelError(str(error).strip(), where="index.faiss") from error
        return labels, scores

    def _scan(self, vectors: Floats, exclude: Sequence[Rows], asked: Asked) -> list[Candidates]:
        """All that passes, compared with each shopper."""
        rows = asked.rows(len(self._vectors))
        together = max(MOST_SCORES // max(len(rows), 1), 1)
        found: list[Candidates] = []
        for start in range(0, len(vectors), together):
            scores = self._scores(vectors[start : start + together], rows, asked)
            found += [_best(rows, row, asked.count, exclude[start + i]) for i, row in enumerate(scores)]
        return found

    def _scores(self, vectors: Floats, rows: Rows, asked: Asked) -> Floats:
        """(b, P) inner products of `vectors` (b, dim) with `rows` (P,), ascending."""
        n, dim = self._vectors.shape
        inside = int(rows.searchsorted(n))
        scores = np.empty((len(vectors), len(rows)), np.float32)
        if inside == n:
            np.matmul(vectors, self._vectors.T, out=scores[:, :n])
        elif len(vectors) == 1:  # FAISS reads the rows where they lie, and takes half as long as gathering them
            labels, query = rows[:inside].astype(np.int64), np.ascontiguousarray(vectors[0], np.float32)
            out, x, y, ids = map(faiss.swig_ptr, (scores[0], query, self._vectors, labels))
            faiss.fvec_inner_products_by_idx(out, x, y, ids, dim, 1, inside)  # type: ignore[attr-defined]
        else:
            for start in range(0, inside, BLOCK):
                part = slice(start, min(start + BLOCK, inside))
                scores[:, part] = vectors @ self._vectors[rows[part]].T
        if asked.live_vectors is not None:
            scores[:, inside:] = vectors @ asked.live_vectors[rows[inside:] - n].T
        return scores


def _kept(rows: npt.NDArray[np.integer], scores: Floats, exclude: Rows, passing: Passing | None) -> Candidates:
    """What FAISS found, without what is excluded or does not pass."""
    keep = rows >= 0  # -1 where FAISS found fewer than it was asked for
    if passing is not None:
        keep &= passing.mask[rows]
    if len(exclude):
        nearest = np.minimum(exclude.searchsorted(rows), len(exclude) - 1)
        keep &= exclude[nearest] != rows
    return Candidates(rows[keep].astype(np.int32), scores[keep])


def _best(rows: Rows, scores: Floats, count: int, exclude: Rows) -> Candidates:
    """The `count` best of `rows` (P,), ascending, without `exclude`; equals in order of rows. Writes to `scores`."""
    places = rows.searchsorted(exclude)
    inside = places < len(rows)
    gone = places[inside][rows[places[inside]] == exclude[inside]]
    scores[gone] = -np.inf
    count = min(count, len(rows) - len(gone))
    if count == 0:
        return Candidates(np.empty(0, np.int32), np.empty(0, np.float32))
    least = np.partition(scores, len(scores) - count)[len(scores) - count]
    near = np.flatnonzero(scores >= least)
    order = near[np.argsort(-scores[near], kind="stable")][:count]
    return Candidates(rows[order], scores[order])

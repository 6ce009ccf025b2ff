"""Stage: the nearest items to a shopper, without those already seen. The only stage that knows FAISS."""

from __future__ import annotations

import faiss
import numpy as np
import numpy.typing as npt

from service.bundle.native import read_index
from service.bundle.reader import Bundle
from service.domain import Candidates
from service.errors import BundleForeignError, ModelError


class Retriever:
    """Inner-product search in the bundle's index, on one thread: the service scales by processes."""

    def __init__(self, bundle: Bundle) -> None:
        faiss.omp_set_num_threads(1)
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

    def search(
        self, vector: npt.NDArray[np.float32], count: int, *, at_least: int, exclude: npt.NDArray[np.int32]
    ) -> Candidates:
        """The `count` items with the largest inner product with `vector` (dim,), none of them in `exclude`.

        `exclude` (S,) are distinct rows, ascending. An approximate index may find fewer than `count`; `at_least` are
        found wherever so many are left. Raises ModelError where FAISS fails.

        Excluded items are searched for and dropped: a selector inside HNSW costs more, and FAISS has returned
        excluded ids through one (issue 5504). A long past is mostly far from the shopper's taste of today, so the
        search begins with room for a part of it and widens only where that was too little.
        """
        most = min(count + len(exclude), len(self._vectors))
        wanted = min(count + min(len(exclude), count), most)
        while True:
            found = _without(exclude, *self._search(vector, wanted))
            if len(found.rows) >= count or wanted == most:
                break
            wanted = min(2 * wanted, most)
        if len(found.rows) < min(at_least, len(self._vectors) - len(exclude)):
            # A graph index reaches nothing beyond its connected part: clusters far apart can leave it short.
            found = self._scan(vector, exclude)
        return Candidates(found.rows[:count], found.scores[:count])

    def _scan(self, vector: npt.NDArray[np.float32], exclude: npt.NDArray[np.int32]) -> Candidates:
        """Every item but the excluded, best first: exact, and tens of milliseconds at half a million items."""
        scores = self._vectors @ vector
        rows = np.argsort(-scores, kind="stable").astype(np.int32)
        return _without(exclude, rows, scores[rows])

    def _search(
        self, vector: npt.NDArray[np.float32], wanted: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        try:
            scores, labels = self._index.search(vector[None], wanted)
        except RuntimeError as error:
            raise ModelError(str(error).strip(), where="index.faiss") from error
        return labels[0].astype(np.int32), scores[0]


def _without(
    exclude: npt.NDArray[np.int32], rows: npt.NDArray[np.int32], scores: npt.NDArray[np.float32]
) -> Candidates:
    keep = rows >= 0  # -1 where FAISS found fewer than it was asked for
    if len(exclude):
        nearest = np.minimum(np.searchsorted(exclude, rows), len(exclude) - 1)
        keep &= exclude[nearest] != rows
    return Candidates(rows[keep], scores[keep])

"""Why an item stands where it does: by how much its score changes where one past item, or one modality, is left out.

Attention says where the model looked; what a past item is worth only shows when it is gone (Jain and Wallace, 2019).
So retrieval's score and the re-ranker's are computed again without each event and each modality, some fifty
variants. A share is an effect's size among all of its group; `effect` keeps the sign.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from service.domain import Candidates, Reason
from service.item_tables import ItemTables
from service.neighborhood import History
from service.rerank import LOWEST, Feeds, Reranker
from service.shoppers import Shoppers

MOST_PAST = 3
"""Past items named for each item: those with the largest effects."""
MODALITIES = ("look", "meaning", "behaviour")


class Explainer:
    """Reasons for the items of one answer, from one bundle's models."""

    def __init__(self, shoppers: Shoppers, reranker: Reranker, relations: Sequence[str]) -> None:
        """`relations`: the names of the item graph's edge types; those with text or image in it are that modality's."""
        self._shoppers = shoppers
        self._reranker = reranker
        kinds = ["meaning" if "text" in name else "look" if "image" in name else "behaviour" for name in relations]
        self._relations_of = {kind: [i for i, k in enumerate(kinds) if k == kind] for kind in MODALITIES}

    def reasons(
        self,
        places: npt.NDArray[np.int32],
        candidates: Candidates,
        history: History,
        tables: ItemTables,
        *,
        seeds: frozenset[int],
        names: Sequence[str],
    ) -> list[tuple[Reason, ...]]:
        """For the candidates at `places`: reasons by past item, then by modality. Raises ModelError.

        `names` are the ids of the history's events, newest first; `seeds` rows of events that are seed items.
        """
        count = len(names)
        feeds = self._reranker.feeds(candidates, history, tables)
        changes = [
            {},
            *self._without_events(feeds, candidates, history, tables, count),
            *self._without_modalities(feeds),
        ]
        scores = self._reranker.variants(feeds, changes, len(candidates.rows))[:, places]
        effects = scores[0] - scores[1:]  # (count + modalities, k)
        past, modality = effects[:count], effects[count:]
        kinds = ["seed" if int(row) in seeds else "history" for row in history.rows[:count]]
        return [
            (
                *_shares(kinds, past[:, i], names, MOST_PAST),
                *_shares(MODALITIES, modality[:, i], [""] * len(MODALITIES), len(MODALITIES)),
            )
            for i in range(len(places))
        ]

    def _without_events(
        self, feeds: Feeds, candidates: Candidates, history: History, tables: ItemTables, count: int
    ) -> list[Feeds]:
        """One change an event: its mask is zero, its edges are gone, and retrieval scores without it."""
        if not count:
            return []
        masks = np.repeat(history.mask[None], count, 0)
        masks[np.arange(count), np.arange(count)] = 0.0
        shorter = [History(history.rows, mask, history.age_days) for mask in masks]
        vectors = tables.item_vectors(candidates.rows)
        user = self._shoppers.vectors(shorter, tables)
        retrieved = user @ vectors.T  # (count, C)
        changes = []
        for event in range(count):
            edges = feeds["edges"].copy()
            edges[:, :, event] = 0.0
            scores = feeds["candidate_scores"].copy()
            scores[0, : len(candidates.rows)] = retrieved[event]
            changes.append({"history_mask": masks[event][None], "edges": edges, "candidate_scores": scores})
        return changes

    def _without_modalities(self, feeds: Feeds) -> list[Feeds]:
        """One change a modality: its edges are gone; without behaviour the vectors and retrieval's scores are too."""
        changes = []
        for kind in MODALITIES:
            edges = feeds["edges"].copy()
            edges[..., self._relations_of[kind]] = 0.0
            change: Feeds = {"edges": edges}
            if kind == "behaviour":
                real = feeds["candidate_scores"] > LOWEST / 2  # not the padding
                mean = feeds["candidate_scores"][real].mean() if real.any() else 0.0
                change |= {
                    "candidate_vectors": np.zeros_like(feeds["candidate_vectors"]),
                    "candidate_scores": np.where(real, mean, feeds["candidate_scores"]).astype(np.float32),
                }
            changes.append(change)
        return changes


def _shares(kinds: Sequence[str], effects: npt.NDArray[np.float32], names: Sequence[str], most: int) -> list[Reason]:
    """Reasons, the largest effect first, their shares sum to one; what is beyond `most` counts together as `others`."""
    size = np.abs(effects)
    total = float(size.sum())
    if total <= 0:
        return []
    order = np.argsort(-size, kind="stable")
    named = [Reason(kinds[i], float(size[i]) / total, names[i], float(effects[i])) for i in order[:most]]
    rest = order[most:]
    if len(rest):
        named.append(Reason("others", float(size[rest].sum()) / total, effect=float(effects[rest].sum())))
    return named

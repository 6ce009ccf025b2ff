"""Reasons are what a score loses without a past item or a modality: held against scores computed without them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle.reader import Bundle, open_bundle
from service.bundle.store import active_version
from service.domain import Candidates, Reason
from service.explain import MOST_PAST, Explainer
from service.item_tables import ItemTables
from service.neighborhood import History, no_places
from service.rerank import Reranker
from service.shoppers import Shoppers


class Models:
    """The bundle's models and one shopper with a few candidates."""

    def __init__(self, bundle: Bundle, world: Any) -> None:
        self.bundle = bundle
        self.shoppers = Shoppers(bundle)
        self.reranker = Reranker(bundle, most_candidates=200)
        self.tables = ItemTables(bundle, no_places(bundle.manifest.num_items))
        self.explainer = Explainer(self.shoppers, self.reranker, bundle.manifest.relations)
        row = world.user_ids.index("shopper-003")
        self.history = self.shoppers.history(*self.shoppers.past(row), now=self.shoppers.as_of)
        rows = np.flatnonzero(world.cluster == world.taste["shopper-003"])[:12].astype(np.int32)
        vector = self.shoppers.vector(self.history, self.tables)
        self.candidates = Candidates(rows, self.tables.item_vectors(rows) @ vector)
        self.names = [world.item_ids[r] for r in self.history.rows[self.history.mask > 0]]

    def reasons(self, seeds: frozenset[int] = frozenset()) -> list[tuple[Reason, ...]]:
        places = np.arange(len(self.candidates.rows), dtype=np.int32)
        return self.explainer.reasons(places, self.candidates, self.history, self.tables, seeds=seeds, names=self.names)

    def scores(self, history: History, *, without_relations: Sequence[int] = ()) -> np.ndarray:
        """As the hot path computes them, but for what is left out."""
        vector = self.shoppers.vector(history, self.tables)
        found = Candidates(self.candidates.rows, self.tables.item_vectors(self.candidates.rows) @ vector)
        feeds = self.reranker.feeds(found, history, self.tables)
        feeds["edges"][..., list(without_relations)] = 0.0
        return self.reranker.variants(feeds, [{}], len(found.rows))[0]


@pytest.fixture(scope="module")
def models(exact_bundle_root: Path, world: Any) -> Models:
    return Models(open_bundle(exact_bundle_root / active_version(exact_bundle_root)), world)


def test_an_effect_is_what_the_score_loses_without_the_past_item(models: Models) -> None:
    whole = models.scores(models.history)
    events = int(models.history.mask.sum())
    changes = np.zeros((events, len(models.candidates.rows)), np.float32)
    for event in range(events):
        kept = np.delete(np.arange(len(models.history.rows)), event)
        padded = [np.append(values[kept], 0).astype(values.dtype) for values in _parts(models.history)]
        changes[event] = whole - models.scores(History(*padded))
    for place, reasons in enumerate(models.reasons()):
        named = [reason for reason in reasons if reason.kind == "history"]
        assert len(named) == min(MOST_PAST, events)
        strongest = np.argsort(-np.abs(changes[:, place]), kind="stable")[: len(named)]
        assert named[0].item_id == models.names[strongest[0]]
        for reason in named:
            effect = changes[models.names.index(reason.item_id), place]
            assert reason.effect == pytest.approx(effect, abs=1e-4)
            assert reason.weight == pytest.approx(abs(effect) / np.abs(changes[:, place]).sum(), abs=1e-3)


def test_an_effect_is_what_the_score_loses_without_the_modality(models: Models) -> None:
    whole = models.scores(models.history)
    assert models.bundle.manifest.relations == ("text", "co_purchase")
    change = whole - models.scores(models.history, without_relations=[0])
    for place, reasons in enumerate(models.reasons()):
        effects = {r.kind: r.effect for r in reasons if r.kind in ("look", "meaning", "behaviour")}
        assert effects["meaning"] == pytest.approx(change[place], abs=1e-4)
        assert effects["look"] == 0
        first = next(r for r in reasons if r.kind in effects)
        assert abs(first.effect) == max(abs(effect) for effect in effects.values())


def test_shares_of_the_past_and_of_the_modalities_each_sum_to_one(models: Models) -> None:
    for reasons in models.reasons():
        past = [r.weight for r in reasons if r.kind in ("history", "seed", "others")]
        modalities = [r.weight for r in reasons if r.kind in ("look", "meaning", "behaviour")]
        assert sum(past) == pytest.approx(1, abs=1e-5)
        assert sum(modalities) == pytest.approx(1, abs=1e-5)
        assert len(past) == MOST_PAST + 1


def test_a_seed_item_is_called_one(models: Models) -> None:
    first = int(models.history.rows[0])
    kinds = {r.item_id: r.kind for reasons in models.reasons(frozenset({first})) for r in reasons if r.item_id}
    assert kinds[models.names[0]] == "seed"
    assert {kind for name, kind in kinds.items() if name != models.names[0]} == {"history"}


def _parts(history: History) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return history.rows, history.mask, history.age_days

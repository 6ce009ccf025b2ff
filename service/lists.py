"""Answers that are about no shopper: what is like an item, a text or a picture, and what is popular."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import numpy as np

from service.admission import Admission
from service.cache_keys import similar_key
from service.catalog import Catalog, Rows
from service.domain import Answer, Candidates, ItemList, PopularQuery, SimilarQuery, Strategy
from service.errors import UnknownItemError
from service.generation import Generation, Serving
from service.lookup import Found
from service.pace import Stopwatch
from service.presenter import Presenter
from service.selection import Mask, Selections, category_filter
from service.similar import best
from service.trends import Trends
from service.turns import Turns


class Lists:
    """Lists of items, from whatever bundle is current."""

    def __init__(
        self,
        generations: Serving,
        selections: Selections,
        turns: Turns,
        admission: Admission,
        presenter: Presenter,
        trends: Trends,
    ) -> None:
        self._generations = generations
        self._trends = trends
        self._selections = selections
        self._turns = turns
        self._admission = admission
        self._presenter = presenter

    async def similar(self, query: SimilarQuery, *, transport: str) -> ItemList:
        """What is like an item, a text or a picture.

        Raises UnknownItemError, InvalidFilterError, EncoderUnavailableError, InvalidImageError, OverloadedError.
        """
        watch = Stopwatch()
        generation = self._generations.current
        catalog = generation.catalog
        mask = self._mask(catalog, query.filter)
        self._admission.check(None)
        if query.item_id:
            found = await self._like_item(query, generation, catalog, mask)
        else:
            found = await self._like_content(query, generation, catalog, mask, watch)
        watch.lap("similar")
        return self._presenter.item_list(
            found,
            generation,
            catalog,
            watch,
            request_id=query.request_id,
            with_metadata=query.with_metadata,
            transport=transport,
        )

    async def popular(self, query: PopularQuery, *, transport: str) -> ItemList:
        """The most popular items, of a category or of all, ever or in a window of time. Raises InvalidFilterError.

        In a window, scores are what shoppers did in it; items that nobody touched follow, with 0, in order of their
        popularity.
        """
        watch = Stopwatch()
        generation = self._generations.current
        catalog = generation.catalog
        mask = self._mask(catalog, query.filter)
        if query.category:
            own = self._selections.mask(catalog, category_filter(query.category))
            mask = own if mask is None else own & mask
        shut = self._selections.excluded(catalog)
        if query.window_s is None:
            popular = catalog.popular(query.k, exclude=shut, passing=mask)
        else:
            popular = _lately(await self._trends.lately(query.window_s), catalog, query.k, shut, mask)
        watch.lap("popular")
        return self._presenter.item_list(
            Found(_answer(popular, Strategy.POPULAR), cached=False),
            generation,
            catalog,
            watch,
            request_id=query.request_id,
            with_metadata=query.with_metadata,
            transport=transport,
        )

    async def _like_item(
        self, query: SimilarQuery, generation: Generation, catalog: Catalog, mask: Mask | None
    ) -> Found:
        row = catalog.row(query.item_id)
        if row is None or row in catalog.gone:
            raise UnknownItemError(f"no item is known as {query.item_id[:80]!r}", where="item_id")
        shut = self._selections.excluded(catalog, np.array([row], np.int32))

        def compute() -> Answer:
            likeness = generation.similar.to_item(row, query.by, query.weights, catalog)
            return _answer(best(likeness, query.k, exclude=shut, passing=mask), Strategy.SIMILAR)

        key = similar_key(generation.version, catalog, query)
        return await generation.cache.get_or_compute(key, compute, catalog.shows)

    async def _like_content(
        self, query: SimilarQuery, generation: Generation, catalog: Catalog, mask: Mask | None, watch: Stopwatch
    ) -> Found:
        # In a thread: a picture takes some ten milliseconds, and its encoder leaves the interpreter alone meanwhile.
        content = await asyncio.to_thread(generation.encoders.content, query.text or None, query.image or None)
        watch.lap("encode")
        look = content.look if query.image else None
        meaning = content.meaning if query.text else None

        def compute() -> Answer:
            likeness = generation.similar.to_content(look, meaning, query.weights, catalog)
            return _answer(
                best(likeness, query.k, exclude=self._selections.excluded(catalog), passing=mask), Strategy.SIMILAR
            )

        return Found(await self._turns.take(compute), cached=False)

    def _mask(self, catalog: Catalog, text: str) -> Mask | None:
        passing = self._selections.passing(catalog, text)
        return None if passing is None else passing.mask


def _answer(candidates: Candidates, strategy: Strategy) -> Answer:
    return Answer(tuple(candidates.rows.tolist()), tuple(candidates.scores.tolist()), strategy)


def _lately(weights: Mapping[str, float], catalog: Catalog, k: int, shut: Rows, mask: Mask | None) -> Candidates:
    found: dict[int, float] = {}
    for item_id, weight in sorted(weights.items(), key=lambda item: (-item[1], item[0])):
        row = catalog.row(item_id)
        if row is not None and (mask is None or mask[row]) and row not in shut:
            found[row] = weight
        if len(found) == k:
            break
    rows = np.fromiter(found, np.int32, len(found))
    rest = catalog.popular(k - len(rows), exclude=np.union1d(shut, rows), passing=mask).rows
    scores = np.array([*found.values(), *[0.0] * len(rest)], np.float32)
    return Candidates(np.concatenate([rows, rest]), scores)

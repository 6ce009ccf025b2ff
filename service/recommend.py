"""The hot path: what is known of a shopper in, the best items out. Read this file first.

    known -> user vector -> retrieve, without what was seen -> re-rank -> weights, rules, diversity -> the best k

Each step is a stage in a module of its own. Here is their order, and what happens where one of them cannot, or has no
time. Several requests go through each stage together. `engine.py` stands around it: state, cache, deadline, log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from service.catalog import NO_ROWS, Catalog, Rows
from service.domain import Answer, Candidates, Degradation, Query, Reason, Strategy
from service.errors import ModelError
from service.generation import Generation
from service.known import Known, known
from service.logs import RateLimit
from service.pace import Pace, Stopwatch
from service.ranking import UNMOVED, Floats, Moved, ordered, rule_reasons, shifted, weighted
from service.retrieve import Passing
from service.selection import Selections, category_filter
from service.state_codec import NOBODY, ShopperState

log = logging.getLogger(__name__)

AMONG = 200
"""Popular items beyond the answer's depth among which rules move some up and others down."""
RECENT = 10
"""Past items whose neighbors join the candidates where look or meaning have a weight of their own."""


@dataclass(slots=True, eq=False)
class Work:
    """One request on its way through the stages."""

    query: Query
    catalog: Catalog
    """The state of the shop that the whole answer is made of."""
    user_row: int | None
    state: ShopperState = NOBODY
    among: Rows | None = None
    """The caller's own list, in place of what retrieval would find."""
    watch: Stopwatch = field(default_factory=Stopwatch)
    known: Known | None = None
    passing: Passing | None = None
    exclude: Rows = field(default_factory=lambda: NO_ROWS)
    rules: Moved = UNMOVED
    vector: Floats | None = None
    candidates: Candidates | None = None
    """None until retrieval found some: a request without any gets popular items."""
    scores: Floats | None = None
    degraded: list[Degradation] = field(default_factory=list)

    @property
    def depth(self) -> int:
        """Items that have to be ranked."""
        return self.query.offset + self.query.k


class Recommender:
    """Computes answers. Plain and synchronous: one takes a millisecond or two on one thread."""

    def __init__(
        self,
        selections: Selections,
        *,
        rerank_budget_s: float | None,
        observe_stage: Callable[[str, float], None],
        count_plan: Callable[[str], None] = lambda plan: None,
    ) -> None:
        """`rerank_budget_s`: longest mean of the re-ranker before it is left out; None for no such limit.

        `count_plan` is told how each filtered retrieval is done.
        """
        self._count_plan = count_plan
        self._selections = selections
        self._rerank_budget_s = rerank_budget_s
        self._observe_stage = observe_stage
        self._pace = Pace()
        self._limit = RateLimit()

    def answers(self, generation: Generation, works: Sequence[Work]) -> list[Answer]:
        """One answer a request, in order, all from one generation. Raises InvalidFilterError."""
        for work in works:
            self._know(generation, work)
        self._retrieve(generation, [w for w in works if w.known is not None and w.known.strategy is not None])
        self._rerank(generation, [w for w in works if w.candidates is not None])
        return [self._answer(generation, work) for work in works]

    def _know(self, generation: Generation, work: Work) -> None:
        query, catalog = work.query, work.catalog
        work.known = known(
            generation.shoppers,
            catalog,
            work.user_row,
            events=work.state.events,
            history=query.history,
            seed_items=query.seed_items,
            exclude_seen=query.exclude_seen,
        )
        work.passing = self._selections.passing(catalog, query.filter)
        hidden = np.sort(catalog.rows(query.rules.hide)) if query.rules.hide else NO_ROWS
        work.exclude = self._selections.excluded(catalog, work.known.seen, hidden)
        work.rules = self._selections.moved(catalog, query.rules)
        self._lap(work, "history")

    def _retrieve(self, generation: Generation, works: list[Work]) -> None:
        """Candidates of each request; a request that cannot have any keeps none, and says why."""
        for work in [w for w in works if not self._pace.fits("retrieve", deadline=w.query.deadline)]:
            work.degraded.append(Degradation.RETRIEVAL_SKIPPED)
            works.remove(work)
        try:
            for alike in _by_length(works):
                histories = [work.known.history for work in alike if work.known is not None]
                vectors = generation.shoppers.vectors(histories, alike[0].catalog.tables)
                for work, vector in zip(alike, vectors, strict=True):
                    work.vector = vector
                    self._lap(work, "user_vector")
            for work in works:
                self._search(generation, work)
                self._lap(work, "retrieve")
        except ModelError as error:
            for work in [w for w in works if w.candidates is None]:
                work.degraded.append(Degradation.RETRIEVAL_FAILED)
                self._report(error, work)

    def _search(self, generation: Generation, work: Work) -> None:
        assert work.vector is not None
        tables = work.catalog.tables
        if work.among is not None:
            work.candidates = Candidates(work.among, tables.item_vectors(work.among) @ work.vector)
            return
        if work.passing is not None:
            self._count_plan(generation.retriever.plan(work.passing))
        found = generation.retriever.search(
            work.vector,
            max(generation.num_candidates, work.depth),
            at_least=work.depth,
            exclude=work.exclude,
            passing=work.passing,
            live_vectors=None if tables.live is None else tables.live.item_vectors,
        )
        query = work.query
        if query.rules.pin or query.rules.boost or query.weights is not None:
            extra = self._beside(generation, work)
            extra = extra[~np.isin(extra, found.rows)]
            scores = tables.item_vectors(extra) @ work.vector
            found = Candidates(np.concatenate([found.rows, extra]), np.concatenate([found.scores, scores]))
        work.candidates = found

    def _beside(self, generation: Generation, work: Work) -> Rows:
        """Rows that join what retrieval found: pinned and boosted items, and what looks or reads like the last ones."""
        query, catalog = work.query, work.catalog
        parts = [catalog.rows([item for promotion in query.rules.boost for item in promotion.item_ids])]
        if query.weights is not None and (query.weights.look or query.weights.meaning) and work.known is not None:
            rows = work.known.history.rows[work.known.history.mask > 0][:RECENT]
            near = [r.neighbors[rows[rows < catalog.tables.num_known]].ravel() for r in generation.bundle.relations]
            parts.append(np.concatenate(near))
        rows = np.concatenate(parts)
        rows = rows[(rows >= 0) & ~np.isin(rows, work.exclude)]
        rows = np.concatenate([work.rules.pin, rows])
        if work.passing is not None:
            rows = rows[work.passing.mask[rows]]
        return np.unique(rows[~np.isin(rows, catalog.rows(query.rules.hide))]).astype(np.int32)

    def _rerank(self, generation: Generation, works: list[Work]) -> None:
        """Scores of each request's candidates: the re-ranker's, or retrieval's where there is no time or it fails."""
        ready = []
        for work in works:
            assert work.candidates is not None
            work.scores = work.candidates.scores
            if not len(work.candidates.rows):
                continue
            if self._pace.fits("rerank", deadline=work.query.deadline, budget_s=self._rerank_budget_s):
                ready.append(work)
            else:
                work.degraded.append(Degradation.RERANK_SKIPPED)
        if not ready:
            return
        try:
            scores = generation.reranker.scores_many(
                [w.candidates for w in ready if w.candidates is not None],
                [w.known.history for w in ready if w.known is not None],
                ready[0].catalog.tables,
            )
        except ModelError as error:
            for work in ready:
                work.degraded.append(Degradation.RERANK_FAILED)
                self._report(error, work)
            return
        for work, own in zip(ready, scores, strict=True):
            work.scores = own
            self._lap(work, "rerank")

    def _answer(self, generation: Generation, work: Work) -> Answer:
        """The best k behind the offset, in the order shown."""
        query, catalog = work.query, work.catalog
        if work.candidates is None or work.known is None or work.known.strategy is None:
            return self._popular(work)
        assert work.scores is not None
        rows, scores = work.candidates.rows, work.scores
        if query.weights is not None:
            scores = weighted(scores, rows, work.known.history, query.weights, catalog.tables)
        scores = shifted(scores, rows, work.rules)
        best = ordered(scores, rows, work.depth, diversity=query.diversity, tables=catalog.tables, pin=work.rules.pin)
        shown = best[query.offset :]
        reasons = self._reasons(generation, work, shown) if query.explain else ()
        self._lap(work, "top_k")
        return self._filled(work, work.known.strategy, rows[shown], scores[shown], reasons)

    def _popular(self, work: Work) -> Answer:
        """Popular items of the category, where the request names one that has enough; then of the whole shop."""
        query, catalog = work.query, work.catalog
        mask = None if work.passing is None else work.passing.mask
        if work.among is not None:
            mask = np.zeros(len(catalog), bool)
            mask[work.among] = True
        found = NO_ROWS
        strategy = Strategy.POPULAR
        wanted = work.depth + (AMONG if work.rules.shifts else 0)
        if query.category:
            in_category = self._selections.mask(catalog, category_filter(query.category))
            both = in_category if mask is None else in_category & mask
            found = catalog.popular(wanted, exclude=work.exclude, passing=both).rows
            strategy = Strategy.CATEGORY_POPULAR if len(found) else strategy
        if len(found) < wanted:
            everywhere = catalog.popular(wanted, exclude=np.union1d(work.exclude, found), passing=mask).rows
            found = np.concatenate([found, everywhere])[:wanted]
        pins = work.rules.pin if mask is None else work.rules.pin[mask[work.rules.pin]]
        rows = np.concatenate([found, pins[~np.isin(pins, found)]])
        scores = catalog.tables.popularity(rows)
        if strategy is Strategy.CATEGORY_POPULAR:  # the category's own stay before the rest
            scores = scores + np.float32(scores.max(initial=0.0) + 1) * in_category[rows]
        scores = shifted(scores, rows, work.rules)
        best = ordered(scores, rows, work.depth, diversity=0.0, tables=catalog.tables, pin=pins)[query.offset :]
        why = [(Reason("popularity", 1.0), *rule_reasons(int(row), work.rules)) for row in rows[best]]
        self._lap(work, "popular")
        return self._filled(work, strategy, rows[best], scores[best], tuple(why) if query.explain else ())

    def _filled(
        self, work: Work, strategy: Strategy, rows: Rows, scores: Floats, reasons: Sequence[tuple[Reason, ...]]
    ) -> Answer:
        """The answer; where the filter left too few and may be relaxed, popular items follow."""
        query = work.query
        if len(rows) < query.k and query.filter and not query.strict_filtering:
            shut = self._selections.excluded(work.catalog, work.exclude, np.sort(rows))
            more = work.catalog.popular(query.k - len(rows), exclude=shut).rows
            below = float(scores.min(initial=0.0)) - 1.0
            rows = np.concatenate([rows, more])
            scores = np.concatenate([scores, below - np.arange(len(more), dtype=np.float32)])
            reasons = (*reasons, *[(Reason("popularity", 1.0),)] * len(more)) if query.explain else ()
            work.degraded.append(Degradation.FILTER_RELAXED)
        if len(rows) < query.k:
            work.degraded.append(Degradation.TOO_FEW_ITEMS)
        return Answer(tuple(rows.tolist()), tuple(scores.tolist()), strategy, tuple(work.degraded), tuple(reasons))

    def _reasons(self, generation: Generation, work: Work, places: Rows) -> tuple[tuple[Reason, ...], ...]:
        assert work.candidates is not None
        assert work.known is not None
        rows = work.candidates.rows[places].tolist()
        moved = [rule_reasons(row, work.rules) for row in rows]
        if not self._pace.fits("explain", deadline=work.query.deadline):
            work.degraded.append(Degradation.EXPLAIN_SKIPPED)
            return tuple(moved)
        history, catalog = work.known.history, work.catalog
        names = [catalog.item_id(row) for row in history.rows[history.mask > 0].tolist()]
        try:
            why = generation.explainer.reasons(
                places, work.candidates, history, catalog.tables, seeds=work.known.seeds, names=names
            )
        except ModelError as error:
            work.degraded.append(Degradation.EXPLAIN_SKIPPED)
            self._report(error, work)
            return tuple(moved)
        self._lap(work, "explain")
        return tuple((*model, *rule) for model, rule in zip(why, moved, strict=True))

    def _lap(self, work: Work, stage: str) -> None:
        seconds = work.watch.lap(stage)
        self._pace.note(stage, seconds)
        self._observe_stage(stage, seconds)

    def _report(self, error: ModelError, work: Work) -> None:
        if self._limit.allows():
            log.error("an answer is degraded: %s", error, extra={"request_id": work.query.request_id})


def _by_length(works: Sequence[Work]) -> list[list[Work]]:
    """Requests whose histories are padded to the same length, together."""
    alike: dict[int, list[Work]] = {}
    for work in works:
        assert work.known is not None
        alike.setdefault(len(work.known.history.rows), []).append(work)
    return list(alike.values())

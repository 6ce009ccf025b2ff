"""Everything that answers from one bundle. A request keeps to one generation from its beginning to its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from service.bundle.manifest import Manifest
from service.bundle.reader import Bundle, open_bundle
from service.cache import AnswerCache
from service.catalog import Catalog, most_popular_first
from service.domain import MAX_K
from service.encoders import ContentEncoders
from service.errors import BundleForeignError, ModelError
from service.explain import Explainer
from service.item_columns import ItemColumns
from service.item_tables import ItemTables
from service.neighborhood import no_places
from service.new_items import NewItems
from service.rerank import Reranker
from service.retrieve import Retriever
from service.shoppers import Shoppers
from service.similar import Similar


class Generation:
    """One bundle, opened and warm. Only `catalog` changes, when the shop changes an item: read it once a request."""

    def __init__(
        self, bundle: Bundle, *, num_candidates: int | None, cache: Callable[[Generation], AnswerCache]
    ) -> None:
        self.bundle = bundle
        self.manifest: Manifest = bundle.manifest
        self.version = bundle.manifest.version
        self.num_candidates = num_candidates or bundle.manifest.num_candidates
        self.places = no_places(bundle.manifest.num_items)
        self.by_popularity = most_popular_first(bundle)
        self.published_columns = ItemColumns.of(bundle, attributes=bundle.attributes)
        self.catalog = Catalog(bundle, ItemTables(bundle, self.places), self.published_columns, self.by_popularity)
        self.shoppers = Shoppers(bundle)
        self.retriever = Retriever(bundle)
        self.reranker = Reranker(bundle, most_candidates=max(self.num_candidates, MAX_K))
        self.explainer = Explainer(self.shoppers, self.reranker, bundle.manifest.relations)
        self.similar = Similar(bundle)
        self.encoders = ContentEncoders.open(bundle)
        self.new_items = NewItems(bundle) if bundle.content is not None else None
        self.cache = cache(self)

    def item_id(self, row: int) -> str | None:
        """The item at a row, None where there is none now."""
        return self.catalog.item_id(row) if 0 <= row < len(self.catalog) else None

    def row(self, item_id: str) -> int | None:
        """The row of an item, None where no one knows it."""
        return self.catalog.row(item_id)

    def warm_up(self) -> None:
        """Call every model in every shape. Raises BundleForeignError where one fails."""
        tables = self.catalog.tables
        try:
            self.shoppers.warm_up(tables)
            self.reranker.warm_up(self.shoppers.history_lengths, tables)
        except ModelError as error:
            raise BundleForeignError(
                f"a model fails on its first call: {error}",
                where=str(self.bundle.path),
                todo="Publish the bundle again",
            ) from error


class Serving(Protocol):
    """Who answers whom (see `generations.py`)."""

    @property
    def current(self) -> Generation:
        """The generation that answers whoever is not in a canary."""
        ...

    def serving(self, user_id: str, version: str = "") -> Generation:
        """The generation for a shopper, or the loaded one of `version`. Raises BundleMissingError."""
        ...


def open_generation(
    directory: Path, *, num_candidates: int | None, cache: Callable[[Generation], AnswerCache]
) -> Generation:
    """Verify, map and warm up the bundle in `directory`. Blocks for seconds: run it in a thread while others answer.

    Raises BundleError where the bundle is refused.
    """
    generation = Generation(open_bundle(directory), num_candidates=num_candidates, cache=cache)
    generation.warm_up()
    return generation

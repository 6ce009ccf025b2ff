from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from service.bundle.reader import open_bundle
from service.bundle.store import active_version
from service.catalog import Catalog


def test_popular_items_but_for_some(exact_bundle_root: Path, world: Any) -> None:
    catalog = Catalog(open_bundle(exact_bundle_root / active_version(exact_bundle_root)))
    top = np.argsort(-world.popularity)[:5].astype(np.int32)
    popular = catalog.popular(20, exclude=top)
    items = catalog.items(tuple(popular.rows.tolist()), tuple(popular.scores.tolist()))
    assert [item.item_id for item in items] == world.popular(20, top)
    assert [item.title for item in items] == [world.titles[row] for row in popular.rows]
    assert popular.scores.tolist() == world.popularity[popular.rows].tolist()
    assert [item.rank for item in items] == list(range(1, 21))

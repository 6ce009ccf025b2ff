"""How near a new item comes to what the offline jobs would have made of it, and how long it takes.

    .venv/bin/python benchmarks/serving/new_items.py --bundles var/demo/bundles [--rows 498196] [--out results.jsonl]

Known items of a bundle are hidden one at a time and embedded from their content alone, as a new item would be:

    cosine      of the item vector, and of the history vector, to the bundle's own
    recall      of the 20 items that the bundle's own vector finds, among the 20 that the new one finds
    edges       correlation and ratio of the mean of the induced edge weights with the item graph's, by relation

`of the neighbors' mean` is what an item vector would be without the item tower. Times are CPU time of one call on one
thread: an embedding, a text and a picture; with --rows also the search among so many rows.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "offline"))
from results import record

from service.bundle.reader import Bundle, open_bundle
from service.bundle.store import active_version
from service.content import Content, NewItem
from service.encoders import ContentEncoders
from service.neighborhood import History, edges, no_places
from service.new_items import NewItems, edges_from_new, edges_to_new, nearest

FOUND = 20
LISTENERS = 2_000
"""Items from which, and to which, edges are compared."""

Floats = npt.NDArray[np.float32]


def hidden(bundle: Bundle, rows: npt.NDArray[np.int32]) -> list[NewItem]:
    """Each of the rows as a new item, the bundle's own entry left out."""
    new_items = NewItems(bundle)
    assert bundle.content is not None
    return [
        new_items.embed(Content(bundle.content[row], bundle.look[row], bundle.meaning[row]), without=row[None])
        for row in rows
    ]


def quality(bundle: Bundle, rows: npt.NDArray[np.int32]) -> dict[str, Any]:
    """The figures of one group of items."""
    items = hidden(bundle, rows)
    known, past = bundle.item_vectors, bundle.history_vectors
    mean = np.stack([item.neighbor_weights @ unit(known[item.neighbor_rows, :-1]) for item in items])
    vectors = np.stack([item.item_vector for item in items])
    events = np.stack([item.history_vector for item in items])
    return {
        "items": len(rows),
        "item_vector_cosine": spread(cosines(vectors[:, :-1], known[rows, :-1])),
        "of_the_neighbors_mean": spread(cosines(mean, known[rows, :-1])),
        "history_vector_cosine": spread(cosines(events[:, :-1], past[rows, :-1])),
        "history_vector_length_ratio": spread(np.linalg.norm(events, axis=1) / np.linalg.norm(past[rows], axis=1)),
        "recall_at_20_of_the_own_nearest": spread(recalls(unit(vectors[:, :-1]), unit(known[:, :-1]), rows)),
        "edges": edge_quality(bundle, rows, items),
    }


def edge_quality(bundle: Bundle, rows: npt.NDArray[np.int32], items: list[NewItem]) -> dict[str, Any]:
    """Induced edges beside the item graph's own, from and to a sample of the other items."""
    random = np.random.default_rng(1)
    others = np.setdiff1d(np.arange(bundle.manifest.num_items, dtype=np.int32), rows)
    others = np.sort(random.choice(others, min(LISTENERS, len(others)), replace=False)).astype(np.int32)
    places = no_places(bundle.manifest.num_items)
    sample, chosen = rows[:200], items[:200]
    listeners = History(others, np.ones(len(others), np.float32), np.zeros(len(others), np.float32))
    into = edges_to_new(chosen, listeners, bundle.relations, places), edges(sample, listeners, bundle.relations, places)
    speakers = History(sample, np.ones(len(sample), np.float32), np.zeros(len(sample), np.float32))
    out = (
        np.stack([edges_from_new(item, others, bundle.relations, places) for item in chosen]),
        edges(others, speakers, bundle.relations, places).transpose(1, 0, 2),
    )
    return {
        name: {way: compared(induced[..., r], own[..., r]) for way, (induced, own) in {"to": into, "from": out}.items()}
        for r, name in enumerate(bundle.manifest.relations)
    }


def compared(induced: Floats, own: Floats) -> dict[str, float | None]:
    if not own.any() or not induced.any():
        return {"correlation": None, "mean_ratio": None}
    return {
        "correlation": round(float(np.corrcoef(induced.ravel(), own.ravel())[0, 1]), 3),
        "mean_ratio": round(float(induced.mean() / own.mean()), 3),
    }


def recalls(vectors: Floats, table: Floats, rows: npt.NDArray[np.int32]) -> Floats:
    """Share of the nearest of the bundle's own vector that the new vector finds, the item itself left out."""
    shares = []
    for vector, row in zip(vectors, rows, strict=True):
        own, _ = nearest(table, table[row], FOUND, without=row[None])
        found, _ = nearest(table, vector, FOUND, without=row[None])
        shares.append(len(np.intersect1d(own, found)) / max(1, len(own)))
    return np.array(shares, np.float32)


def speed(bundle: Bundle, rows: int) -> dict[str, float]:
    """CPU milliseconds of one call on one thread, the median of several: the machine may be busy with other things."""
    random = np.random.default_rng(0)
    encoders, new_items = ContentEncoders.open(bundle), NewItems(bundle)
    assert bundle.content is not None
    row = int(np.flatnonzero(bundle.content.any(axis=1))[0])
    content = Content(bundle.content[row], bundle.look[row], bundle.meaning[row])
    found = {"embed_ms": cpu_ms(lambda: new_items.embed(content))}
    if "text" in encoders.available:
        long = " ".join(bundle.titles[i] for i in range(40))
        found["text_8_words_ms"] = cpu_ms(lambda: encoders.text("a red cotton summer dress with short sleeves"))
        found["text_full_ms"] = cpu_ms(lambda: encoders.text(long))
    if "image" in encoders.available:
        for side in (128, 1000):
            data = jpeg(random.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8), side)
            found[f"image_{side}_ms"] = cpu_ms(lambda data=data: encoders.image(data))
    if rows:
        table = unit(random.normal(size=(rows, 128)).astype(np.float32))
        found[f"nearest_of_{rows}_ms"] = cpu_ms(lambda: nearest(table, table[7], FOUND))
    return found


def cpu_ms(call: Callable[[], object], times: int = 15) -> float:
    call()
    taken = []
    for _ in range(times):
        began = time.process_time()
        call()
        taken.append(time.process_time() - began)
    return round(float(np.median(taken)) * 1e3, 2)


def jpeg(pixels: npt.NDArray[np.uint8], side: int) -> bytes:
    out = BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(out, "JPEG", quality=90)
    return out.getvalue()


def unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12), np.float32)


def cosines(a: Floats, b: Floats) -> Floats:
    return np.asarray((unit(a) * unit(b)).sum(axis=1), np.float32)


def spread(values: Floats) -> dict[str, float]:
    low, high = np.percentile(values, [10, 90])
    return {"mean": round(float(values.mean()), 4), "p10": round(float(low), 4), "p90": round(float(high), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundles", type=Path, required=True)
    parser.add_argument("--items", type=int, default=1000, help="items hidden of each group")
    parser.add_argument("--rows", type=int, default=0, help="also time the search among so many rows")
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args()
    bundle = open_bundle(asked.bundles / active_version(asked.bundles))
    assert bundle.content is not None, "a bundle of format 2 is needed"
    there = bundle.content.any(axis=1)
    groups = {"bought": bundle.popularity > 0, "never_bought": bundle.popularity == 0}
    figures: dict[str, Any] = {"bundle": bundle.manifest.version, "catalog": bundle.manifest.num_items}
    for name, group in groups.items():
        rows = np.flatnonzero(group & there).astype(np.int32)
        rows = np.random.default_rng(0).permutation(rows)[: asked.items]
        if len(rows):
            figures[name] = quality(bundle, rows)
    record("new items", {**figures, "speed": speed(bundle, asked.rows)}, asked.out)


if __name__ == "__main__":
    main()

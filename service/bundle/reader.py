"""Open a bundle: verify first, map after. Nothing in it is parsed before its size and sha256 are those of the manifest.

Three rings: each file against the manifest, then the invariants across files (ids = rows = vectors = index = graph),
then each library's own view (the FAISS index's d, ntotal and metric; the ONNX models' tensor names and shapes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from service.bundle.files import (
    CodedStrings,
    IdTable,
    StringTable,
    load_array,
    load_coded,
    load_ids,
    load_strings,
    sha256_file,
)
from service.bundle.manifest import Artifact, Manifest
from service.bundle.native import check_encoders, check_index, check_models
from service.bundle.signatures import FUSED_DIM, signatures
from service.errors import BundleCorruptError, BundleForeignError, BundleMissingError, InputError
from service.neighborhood import Relation

MANIFEST = "manifest.json"
INDEX = "index.faiss"
TEXT_TOKENIZER = "text_tokenizer.json"


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: mapped tables, and paths of what FAISS and onnxruntime open themselves."""

    path: Path
    manifest: Manifest
    item_ids: IdTable
    titles: StringTable
    """(items,) empty where an item has none; likewise `images`."""
    images: StringTable
    """(items,) file below the shop's folder, `archive.tar::member`, or a URL."""
    categories: CodedStrings
    brands: CodedStrings
    prices: npt.NDArray[np.float32]
    """(items,) NaN where unknown."""
    attributes: Mapping[str, CodedStrings]
    """Attribute name -> column (items,) of a further property, such as colour; empty where the catalog has none."""
    popularity: npt.NDArray[np.float32]
    """(items,) interactions, weighted by recency; 0 for a cold item."""
    item_vectors: npt.NDArray[np.float32]
    """(items, dim) an item as a candidate; what the index holds."""
    history_vectors: npt.NDArray[np.float32]
    """(items, dim) an item as an event of a shopper's history."""
    look: npt.NDArray[np.float32]
    """(items, 128) by image alone, zero rows where there is none; `meaning` by text."""
    meaning: npt.NDArray[np.float32]
    content: npt.NDArray[np.float32] | None
    """(items, 128) by text and image together, unit rows, zero where an item has neither; None before format 2."""
    behaviour: npt.NDArray[np.float32]
    """(items, w) by interactions alone, zero rows where there are none."""
    relations: tuple[Relation, ...]
    user_ids: IdTable
    history_offsets: npt.NDArray[np.int64]
    """(users + 1,) where each shopper's events begin in `history_items` and `history_times`, oldest first."""
    history_items: npt.NDArray[np.int32]
    history_times: npt.NDArray[np.int64]

    @property
    def index_path(self) -> Path:
        """The FAISS index file."""
        return self.path / INDEX

    def model_path(self, name: str) -> Path:
        """An ONNX model's file; `name` as in signatures.py."""
        return self.path / f"{name}.onnx"

    @property
    def tokenizer_path(self) -> Path:
        """The text encoder's tokenizer, where the manifest has such an encoder."""
        return self.path / TEXT_TOKENIZER


def read_manifest(directory: Path) -> Manifest:
    """Parse and validate the manifest alone."""
    path = directory / MANIFEST
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise BundleMissingError(
            "there is no bundle here (no manifest.json)",
            where=str(directory),
            todo="Publish one with `plotpointe-jobs publish`, or correct the path",
        ) from error
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the document"
        raise BundleForeignError(
            f"the manifest does not fit this service: {field}: {first['msg']}",
            where=str(path),
            todo="Publish the bundle again with this version of plotpointe",
        ) from error


def open_bundle(directory: Path) -> Bundle:
    """Verify and map the bundle in `directory`.

    Raises BundleMissingError, BundleCorruptError (bytes differ from the manifest) or BundleForeignError (bytes are
    as the manifest says, but do not fit together or do not fit this service).
    """
    manifest = read_manifest(directory)
    _check_files(directory, manifest.files)
    try:
        bundle = _map(directory, manifest)
    except FileNotFoundError as error:
        raise _foreign(directory, f"an artifact is missing: {error.filename}") from error
    _check_arrays(bundle)
    _check_invariants(bundle)
    check_index(bundle.index_path, manifest.index, manifest.num_items, manifest.dim)
    check_models(directory, manifest.models, signatures(manifest.dim, len(manifest.relations)))
    check_encoders(directory, manifest.online_encoders)
    return bundle


def _check_files(directory: Path, files: dict[str, Artifact]) -> None:
    for name, artifact in files.items():
        path = directory / name
        if not path.resolve().is_relative_to(directory.resolve()):
            raise _foreign(directory, f"the manifest names a file outside the bundle: {name!r}")
        if not path.is_file():
            raise BundleCorruptError("a file is missing", where=str(path), todo="Publish the bundle again")
        size = path.stat().st_size
        if size != artifact.size:
            raise BundleCorruptError(
                f"the file holds {size} bytes, the manifest says {artifact.size}",
                where=str(path),
                todo="It was truncated or replaced: publish or copy the bundle again",
            )
        actual = sha256_file(path)
        if actual != artifact.sha256:
            raise BundleCorruptError(
                f"sha256 is {actual}, the manifest says {artifact.sha256}",
                where=str(path),
                todo="It was changed after publishing: publish or copy the bundle again",
            )
    present = {p.name for p in directory.iterdir() if p.name != MANIFEST}
    if extra := sorted(present - files.keys()):
        raise _foreign(directory, f"files that the manifest does not list: {', '.join(extra)}")


def _map(directory: Path, manifest: Manifest) -> Bundle:
    def array(name: str) -> npt.NDArray[Any]:
        return load_array(directory, name)

    return Bundle(
        path=directory,
        manifest=manifest,
        item_ids=load_ids(directory, "item_ids"),
        titles=load_strings(directory, "titles"),
        images=load_strings(directory, "images"),
        categories=load_coded(directory, "categories"),
        brands=load_coded(directory, "brands"),
        prices=array("prices"),
        attributes=MappingProxyType({name: load_coded(directory, attribute(name)) for name in manifest.attributes}),
        popularity=array("popularity"),
        item_vectors=array("item_vectors"),
        history_vectors=array("history_vectors"),
        look=array("look"),
        meaning=array("meaning"),
        content=array("content") if manifest.has_content else None,
        behaviour=array("behaviour"),
        relations=tuple(
            Relation(array(f"graph.{name}.neighbors"), array(f"graph.{name}.weights")) for name in manifest.relations
        ),
        user_ids=load_ids(directory, "user_ids"),
        history_offsets=array("history_offsets"),
        history_items=array("history_items"),
        history_times=array("history_times"),
    )


def attribute(name: str) -> str:
    """The name that an attribute's column has among the artifacts."""
    return f"attribute.{name}"


def _check_arrays(bundle: Bundle) -> None:
    """Every array's dtype and shape: as the manifest says, and as this service needs."""
    m = bundle.manifest
    for name, artifact in m.files.items():
        if name.endswith(".npy"):
            array = load_array(bundle.path, name.removesuffix(".npy"))
            if (array.dtype.str, array.shape) != (artifact.dtype, artifact.shape):
                raise _foreign(
                    bundle.path,
                    f"{name} is {array.dtype.str} {array.shape}, the manifest says {artifact.dtype} {artifact.shape}",
                )
    events = len(bundle.history_items)
    vectors = ("<f4", (m.num_items, m.dim))
    content = ("<f4", (m.num_items, FUSED_DIM))
    needed: dict[str, tuple[npt.NDArray[Any], tuple[str, tuple[int, ...]]]] = {
        "item_vectors": (bundle.item_vectors, vectors),
        "history_vectors": (bundle.history_vectors, vectors),
        "look": (bundle.look, content),
        "meaning": (bundle.meaning, content),
        "behaviour": (bundle.behaviour, ("<f4", (m.num_items, bundle.behaviour.shape[-1]))),
        "prices": (bundle.prices, ("<f4", (m.num_items,))),
        "popularity": (bundle.popularity, ("<f4", (m.num_items,))),
        "categories.codes": (bundle.categories.codes, ("<i4", (m.num_items,))),
        "brands.codes": (bundle.brands.codes, ("<i4", (m.num_items,))),
        "history_offsets": (bundle.history_offsets, ("<i8", (m.num_users + 1,))),
        "history_items": (bundle.history_items, ("<i4", (events,))),
        "history_times": (bundle.history_times, ("<i8", (events,))),
    }
    if bundle.content is not None:
        needed["content"] = (bundle.content, content)
    for name, column in bundle.attributes.items():
        needed[f"{attribute(name)}.codes"] = (column.codes, ("<i4", (m.num_items,)))
    for name, relation in zip(m.relations, bundle.relations, strict=True):
        degree = relation.neighbors.shape[-1]
        needed[f"graph.{name}.neighbors"] = (relation.neighbors, ("<i4", (m.num_items, degree)))
        needed[f"graph.{name}.weights"] = (relation.weights, ("<f4", (m.num_items, degree)))
    for name, (array, expected) in needed.items():
        if (array.dtype.str, array.shape) != expected:
            raise _foreign(
                bundle.path,
                f"{name} is {array.dtype.str} {array.shape}, expected {expected[0]} {expected[1]}",
            )


def _check_invariants(bundle: Bundle) -> None:
    m = bundle.manifest
    try:
        bundle.item_ids.check("item_ids")
        bundle.user_ids.check("user_ids")
    except InputError as error:
        raise _foreign(bundle.path, str(error)) from error
    claims = {
        f"item_ids has {m.num_items} ids": len(bundle.item_ids) == m.num_items,
        f"user_ids has {m.num_users} ids": len(bundle.user_ids) == m.num_users,
        "titles and images have one string an item": len(bundle.titles) == len(bundle.images) == m.num_items,
        "history_offsets ascend from 0 to the number of events": _offsets_fit(bundle),
        "history_items are item rows": _within(bundle.history_items, 0, m.num_items),
        "category codes are in range": _within(bundle.categories.codes, -1, len(bundle.categories.names)),
        "brand codes are in range": _within(bundle.brands.codes, -1, len(bundle.brands.names)),
        "attribute codes are in range": all(
            _within(column.codes, -1, len(column.names)) for column in bundle.attributes.values()
        ),
        "graph neighbors are item rows or -1": all(_within(r.neighbors, -1, m.num_items) for r in bundle.relations),
        "graph weights are finite": all(bool(np.isfinite(r.weights).all()) for r in bundle.relations),
        "vectors are finite": all(
            bool(np.isfinite(table).all()) for table in (bundle.item_vectors, bundle.history_vectors, bundle.popularity)
        ),
        "content rows are of length one or zero": bundle.content is None or _unit_or_zero(bundle.content),
        "the text encoder has its tokenizer": m.online_encoders.text is None or TEXT_TOKENIZER in m.files,
    }
    for claim, holds in claims.items():
        if not holds:
            raise _foreign(bundle.path, f"broken invariant: {claim}")


def _offsets_fit(bundle: Bundle) -> bool:
    offsets = bundle.history_offsets
    return (
        int(offsets[0]) == 0 and int(offsets[-1]) == len(bundle.history_items) and bool(np.all(np.diff(offsets) >= 0))
    )


def _within(array: npt.NDArray[np.int32], low: int, high: int) -> bool:
    """Whether every value is in [low, high)."""
    return array.size == 0 or (int(array.min()) >= low and int(array.max()) < high)


def _unit_or_zero(table: npt.NDArray[np.float32]) -> bool:
    """Whether every row has length 1 or is zero; NaN is neither."""
    squares = np.einsum("ij,ij->i", table, table)
    return bool(np.all((squares == 0) | (np.abs(squares - 1) < 1e-3)))


def _foreign(directory: Path, what: str) -> BundleForeignError:
    return BundleForeignError(
        what, where=str(directory), todo="Publish the bundle again with this version of plotpointe"
    )

"""Publish: the finished stages become one bundle, which the service's own reader opens before it gets its name.

A bundle with the same content gets the same version, so publishing twice changes nothing. The new bundle becomes the
active one unless it is worse than the active bundle on the same data by the same protocol.
"""

from __future__ import annotations

import json
import logging
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from offline_jobs.embedding_shards import EncoderRecord
from offline_jobs.online_encoders import add_online_encoders
from offline_jobs.readers.raw import ATTRIBUTE, attribute_columns
from offline_jobs.status import outdated, records
from offline_jobs.weights import combined_sha256
from service.bundle.files import CodedStrings, IdTable, StringTable
from service.bundle.manifest import Encoder, Evaluation, FaissIndex, Manifest, OnnxModel
from service.bundle.reader import INDEX, attribute, read_manifest
from service.bundle.signatures import FUSION
from service.bundle.store import activate, active_version
from service.bundle.writer import Draft, new_bundle
from service.errors import BundleError, BundleMissingError, InputError, StageError
from training.dataset import RELATIONS, STORED, load_interactions, load_relation
from training.histories import past_of
from training.stage import StageRecord, require

log = logging.getLogger(__name__)

INPUTS = ("ingest", "split", "text_embeddings", "image_embeddings", "fusion", "graphs", "evaluate", "refit", "export")


class PublishSettings(BaseModel):
    """When a new bundle becomes the active one."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    metric: str = "recall@20"
    """The metric of the evaluation by which bundles are compared."""
    max_drop: float = Field(default=0.05, ge=0, le=1)
    """Largest share of the active bundle's metric that the new one may lose, on the same data."""
    force: bool = False
    """Activate the bundle even if it is worse."""


def run_publish(settings: PublishSettings, work: Path, bundles: Path) -> str:
    """Write the bundle of the work folder below `bundles` and activate it; returns its version.

    Raises StageError where a stage is missing or outdated, or where the bundle is worse than the active one (it is
    published then, but not activated), and BundleError where the service would refuse what was written.
    """
    found = _current_records(work)
    _check_metric(settings.metric, work)
    with new_bundle(bundles) as draft:
        _add_catalog(draft, work)
        _add_model(draft, work)
        manifest = draft.publish(
            attributes=_add_attributes(draft, work),
            online_encoders=add_online_encoders(draft, work),
            **_add_shoppers(draft, work),
            **_described(work, found),
        )
    if reason := worse(manifest, active_manifest(bundles), settings):
        if not settings.force:
            raise StageError(
                f"published, but not activated: {reason}",
                where=str(bundles / manifest.version),
                todo="Find out why, or activate it with `plotpointe-jobs publish --force`",
            )
        log.warning("publish: activated by force although %s", reason)
    activate(bundles, manifest.version)
    log.info("publish: %s is active in %s", manifest.version, bundles)
    return manifest.version


def active_manifest(bundles: Path) -> Manifest | None:
    """The active bundle's manifest; None where none is active, or where what is active cannot be read."""
    try:
        return read_manifest(bundles / active_version(bundles))
    except BundleMissingError:
        return None
    except BundleError as error:
        log.warning("publish: the active bundle cannot be compared with: %s", error)
        return None


def worse(new: Manifest, active: Manifest | None, settings: PublishSettings) -> str:
    """Why `new` is worse than `active` by more than is allowed; empty where it is not, or cannot be compared."""
    if active is None or active.version == new.version:
        return ""
    if active.data_fingerprint != new.data_fingerprint or active.evaluation.protocol != new.evaluation.protocol:
        log.info("publish: %s was judged on other data or by another protocol: not compared", active.version)
        return ""
    before = active.evaluation.metrics.get(settings.metric)
    if before is None:
        log.info("publish: %s has no %s: not compared", active.version, settings.metric)
        return ""
    now = new.evaluation.metrics.get(settings.metric, 0.0)
    if now >= before * (1 - settings.max_drop):
        return ""
    return (
        f"{settings.metric} fell from {before:.4f} ({active.version}) to {now:.4f}, "
        f"by {1 - now / before:.1%} where {settings.max_drop:.0%} is allowed"
    )


def _check_metric(metric: str, work: Path) -> None:
    """A mistyped metric would compare nothing and so let everything pass."""
    known = _evaluation(work).metrics
    if known and metric not in known:
        raise InputError(
            f"the evaluation has no {metric!r}", where="--metric", todo=f"It has {', '.join(sorted(known))}"
        )


def _evaluation(work: Path) -> Evaluation:
    return Evaluation.model_validate_json((work / "evaluate" / "evaluation.json").read_bytes())


def _current_records(work: Path) -> dict[str, StageRecord]:
    """Every stage's record, all of them made from one another."""
    for stage in (*INPUTS, "index"):
        require(work, stage)
    found = records(work)
    changed = outdated(found)
    if changed:
        stage, source = next(iter(changed.items()))
        raise StageError(
            f"stage '{stage}' was made before '{source}' changed",
            where=str(work / stage),
            todo=f"Run the stages again: `plotpointe-jobs run --work {work}`",
        )
    return found


def _add_catalog(draft: Draft, work: Path) -> None:
    """Ids and what is shown or filtered by: one row an item."""
    items = pl.read_parquet(work / "ingest" / "items.parquet")
    draft.strings("item_ids", IdTable.of(items["item_id"]))
    draft.strings("titles", StringTable.of(items["title"].fill_null("")))
    draft.strings("images", StringTable.of(items["image"].fill_null("")))
    draft.coded("categories", CodedStrings.of(items["category"].to_list()))
    draft.coded("brands", CodedStrings.of(items["brand"].to_list()))
    draft.array("prices", items["price"].cast(pl.Float32).fill_null(float("nan")).to_numpy())


def _add_attributes(draft: Draft, work: Path) -> tuple[str, ...]:
    """The further columns that ingest has kept of the items, for filters; returns their names."""
    path = work / "ingest" / "items.parquet"
    columns = attribute_columns(pl.read_parquet_schema(path))
    for column, values in pl.read_parquet(path, columns=columns).to_dict().items():
        draft.coded(attribute(column.removeprefix(ATTRIBUTE)), CodedStrings.of(values.to_list()))
    return tuple(column.removeprefix(ATTRIBUTE) for column in columns)


def _add_model(draft: Draft, work: Path) -> None:
    """Vectors, graphs, ONNX models and the index."""
    for name in ("item_vectors", "history_vectors", "behaviour", "popularity"):
        draft.array(name, _floats(work / "refit" / f"{name}.npy"))
    for name, made in {"look": "look", "meaning": "meaning", "content": "fused"}.items():
        draft.array(name, _floats(work / "fusion" / f"{made}.npy"))
    for name in RELATIONS:
        relation = load_relation(work / ("graphs" if name in STORED else "refit") / f"{name}.npz")
        draft.array(f"graph.{name}.neighbors", relation.neighbors)
        draft.array(f"graph.{name}.weights", relation.weights)
    for name in _models(work):
        stage = "fusion" if name == FUSION else "export"
        draft.file(f"{name}.onnx", work / stage / f"{name}.onnx")
    draft.file(INDEX, work / "index" / INDEX)


def _add_shoppers(draft: Draft, work: Path) -> dict[str, Any]:
    """Every shopper's past, as far as the model was fitted on it; the manifest's sizes."""
    users = pl.read_parquet(work / "ingest" / "users.parquet")["user_id"]
    draft.strings("user_ids", IdTable.of(users))
    refit = json.loads((work / "refit" / "refit.json").read_text())
    interactions = load_interactions(work).within(refit["splits"])
    past = past_of(interactions)
    draft.array("history_offsets", past.offsets)
    draft.array("history_items", past.items)
    draft.array("history_times", past.times)
    return {"num_users": len(users), "num_items": interactions.num_items}


def _described(work: Path, found: dict[str, StageRecord]) -> dict[str, Any]:
    """The manifest's fields, but for the sizes, from the stages."""
    refit = json.loads((work / "refit" / "refit.json").read_text())
    index = FaissIndex.model_validate_json((work / "index" / "index.json").read_bytes())
    tables = {name: digest.sha256 for name, digest in found["ingest"].outputs.items() if name.endswith(".parquet")}
    return {
        "code_version": package_version("plotpointe"),
        "data_fingerprint": combined_sha256(tables),
        "as_of": refit["as_of"],
        "dim": index.dim,
        "history_length": refit["history_length"],
        "num_candidates": refit["num_candidates"],
        "relations": RELATIONS,
        "index": index,
        "models": _models(work),
        "encoders": {name: _encoder(work / f"{name}_embeddings") for name in ("text", "image")},
        "evaluation": _evaluation(work),
    }


def _models(work: Path) -> dict[str, OnnxModel]:
    described = json.loads((work / "export" / "models.json").read_text())
    return {name: OnnxModel.model_validate(model) for name, model in described.items()}


def _encoder(stage: Path) -> Encoder:
    record = EncoderRecord.model_validate_json((stage / "encoder.json").read_bytes())
    return Encoder(name=record.name, sha256=record.sha256, dim=record.width)


def _floats(path: Path) -> npt.NDArray[np.float32]:
    table: npt.NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    return np.asarray(table, np.float32)

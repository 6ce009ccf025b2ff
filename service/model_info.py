"""What callers are told of the bundle that is served, on every transport. The manifest itself stays inside."""

from __future__ import annotations

from dataclasses import dataclass

from service.bundle.manifest import Manifest


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """The nearest-neighbour index and how much of an exact search it finds."""

    factory: str
    recall_at: dict[int, float]
    """k -> share of the exact top k that the index returns, mean over users."""


@dataclass(frozen=True, slots=True)
class EvaluationInfo:
    """Quality on held-out interactions."""

    protocol: str
    users: int
    metrics: dict[str, float]
    """Metric name -> mean over users."""
    baselines: dict[str, dict[str, float]]
    """Baseline name -> the same metrics on the same split."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is being served."""

    version: str
    created_at: str
    """RFC 3339, UTC."""
    code_version: str
    data_fingerprint: str
    as_of: int
    """Unix seconds of the newest interaction that the bundle knows."""
    num_items: int
    num_users: int
    dim: int
    num_candidates: int
    index: IndexInfo
    evaluation: EvaluationInfo
    parity_max_abs_diff: dict[str, float]
    """ONNX model name -> largest absolute difference to the model that it was exported from."""
    encoders: dict[str, str]
    """What was embedded -> name of the pretrained encoder."""


def model_info(manifest: Manifest) -> ModelInfo:
    """The part of a manifest that callers see."""
    evaluation = manifest.evaluation
    return ModelInfo(
        version=manifest.version,
        created_at=manifest.created_at,
        code_version=manifest.code_version,
        data_fingerprint=manifest.data_fingerprint,
        as_of=manifest.as_of,
        num_items=manifest.num_items,
        num_users=manifest.num_users,
        dim=manifest.dim,
        num_candidates=manifest.num_candidates,
        index=IndexInfo(factory=manifest.index.factory, recall_at=manifest.index.recall_at),
        evaluation=EvaluationInfo(
            protocol=evaluation.protocol,
            users=evaluation.users,
            metrics=evaluation.metrics,
            baselines=evaluation.baselines,
        ),
        parity_max_abs_diff={name: model.parity_max_abs_diff for name, model in manifest.models.items()},
        encoders={kind: encoder.name for kind, encoder in manifest.encoders.items()},
    )

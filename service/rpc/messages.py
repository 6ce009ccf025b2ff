"""Domain values -> protobuf messages."""

from __future__ import annotations

from protos import recommender_pb2 as pb
from service.domain import Recommendation
from service.model_info import ModelInfo


def recommend_response(answer: Recommendation) -> pb.RecommendResponse:
    """One answer as a message."""
    return pb.RecommendResponse(
        recommendation_id=answer.recommendation_id,
        user_id=answer.user_id,
        items=[
            pb.RecommendedItem(item_id=item.item_id, rank=item.rank, score=item.score, title=item.title)
            for item in answer.items
        ],
        strategy=answer.strategy,
        bundle_version=answer.bundle_version,
        cached=answer.cached,
        degraded=answer.degraded,
        timing_ms=answer.timing_ms,
    )


def get_model_response(model: ModelInfo) -> pb.GetModelResponse:
    """What is being served, as a message."""
    evaluation = model.evaluation
    return pb.GetModelResponse(
        version=model.version,
        created_at=model.created_at,
        code_version=model.code_version,
        data_fingerprint=model.data_fingerprint,
        as_of=model.as_of,
        num_items=model.num_items,
        num_users=model.num_users,
        dim=model.dim,
        num_candidates=model.num_candidates,
        index=pb.Index(factory=model.index.factory, recall_at=model.index.recall_at),
        evaluation=pb.Evaluation(
            protocol=evaluation.protocol,
            users=evaluation.users,
            metrics=evaluation.metrics,
            baselines={name: pb.Metrics(metrics=metrics) for name, metrics in evaluation.baselines.items()},
        ),
        parity_max_abs_diff=model.parity_max_abs_diff,
        encoders=model.encoders,
    )

"""Domain values -> protobuf messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from protos import recommender_pb2 as pb
from service.domain import EventsReceipt, ItemList, ItemsReceipt, Recommendation, RecommendedItem
from service.errors import PlotPointeError
from service.model_info import ModelInfo
from service.remembered import Remembered
from service.validation.violations import detail_of, violations_of

if TYPE_CHECKING:
    from service.admin import BundleStates, PartState


_REPEATED: Remembered[tuple[RecommendedItem, ...], pb.RecommendResponse] = Remembered(1_000)
"""The items of answers that are given again, as messages that were made the first time; some 5 KB each."""


def recommend_response(answer: Recommendation) -> pb.RecommendResponse:
    """One answer as a message."""
    message = pb.RecommendResponse(
        recommendation_id=answer.recommendation_id,
        user_id=answer.user_id,
        strategy=answer.strategy,
        bundle_version=answer.bundle_version,
        cached=answer.cached,
        degraded=answer.degraded,
        timing_ms=answer.timing_ms,
    )
    if answer.cached:
        message.items.MergeFrom(_REPEATED.get(answer.items, None, lambda: _items(answer.items)).items)
    else:
        _add_items(message.items, answer.items)
    return message


def _items(items: Sequence[RecommendedItem]) -> pb.RecommendResponse:
    """A message that holds some items and nothing else."""
    message = pb.RecommendResponse()
    _add_items(message.items, items)
    return message


def _add_items(repeated: Any, items: Sequence[RecommendedItem]) -> None:
    """In place and field by field: a list of ready messages would be made first and copied then, at twice the time."""
    for item in items:
        message = repeated.add()
        message.item_id = item.item_id
        message.rank = item.rank
        message.score = item.score
        message.title = item.title
        for reason in item.reasons:
            message.reasons.add(kind=reason.kind, weight=reason.weight, item_id=reason.item_id, effect=reason.effect)
        if (shown := item.metadata) is not None:
            message.metadata.MergeFrom(
                pb.Metadata(
                    category=shown.category,
                    brand=shown.brand,
                    price=shown.price,
                    image=shown.image,
                    in_stock=shown.in_stock,
                    attributes=shown.attributes,
                )
            )


def batch_response(answers: Sequence[Recommendation | PlotPointeError]) -> pb.BatchRecommendResponse:
    """The outcomes of a batch, in order."""
    return pb.BatchRecommendResponse(answers=[_outcome(answer) for answer in answers])


def _outcome(answer: Recommendation | PlotPointeError) -> pb.BatchOutcome:
    if isinstance(answer, Recommendation):
        return pb.BatchOutcome(recommendation=recommend_response(answer))
    errors = [pb.FieldError(field=fault.field, message=fault.message) for fault in violations_of(answer)]
    return pb.BatchOutcome(error=pb.Refusal(reason=answer.reason, detail=detail_of(answer), errors=errors))


def item_list(answer: ItemList) -> pb.ItemList:
    """Items that are alike, or popular."""
    message = pb.ItemList(
        recommendation_id=answer.recommendation_id,
        bundle_version=answer.bundle_version,
        timing_ms=answer.timing_ms,
    )
    _add_items(message.items, answer.items)
    return message


def events_receipt(receipt: EventsReceipt) -> pb.EventsReceipt:
    """What became of some events."""
    return pb.EventsReceipt(
        accepted=receipt.accepted,
        duplicates=receipt.duplicates,
        unknown_items=receipt.unknown_items,
        shared=receipt.shared,
    )


def items_receipt(receipt: ItemsReceipt) -> pb.ItemsReceipt:
    """What became of a change to the live catalogue."""
    return pb.ItemsReceipt(accepted=receipt.accepted, sequence=receipt.sequence, not_embedded=receipt.not_embedded)


def bundle_states(states: BundleStates) -> pb.BundleStates:
    """Which bundle serves, and which could."""
    return pb.BundleStates(
        serving=states.serving,
        previous=states.previous,
        canary=_part(states.canary),
        shadow=_part(states.shadow),
        available=states.available,
        state=states.state,
    )


def _part(part: PartState | None) -> pb.BundleShare | None:
    return None if part is None else pb.BundleShare(version=part.version, share=part.share)


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

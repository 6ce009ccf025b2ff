"""The JSON bodies as `/docs` shows them. `answers.py` writes without these; a test holds the two together."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from service.domain import Degradation, Strategy


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class FieldBody(_Body):
    """One field of a request and what is wrong with it."""

    field: str
    message: str


class ReasonBody(_Body):
    """What carried an item's score, as a share."""

    kind: str
    """`history` or `seed` (an item of the user's past), `others` (the rest of the past together), `meaning`, `look` or
    `behaviour` (a modality), `popularity`, `pinned`, `boosted`, `buried`."""
    weight: float
    """Share of what all reasons of this group change: those of the past sum to one, those of the modalities too."""
    item_id: str
    """The item of the past; empty for the other kinds."""
    effect: float
    """By how much the score would fall without it, in units of the score; below 0 the score would rise."""


class MetadataBody(_Body):
    """What a shop shows of an item beside its title."""

    category: str | None = None
    brand: str | None = None
    price: float | None = None
    image: str
    """As the shop named it; empty where it has none."""
    in_stock: bool
    attributes: dict[str, str]
    """Further columns that filters know."""


class RecommendedItemBody(_Body):
    """One item of an answer."""

    item_id: str
    rank: int = Field(ge=1)
    """Place in the ranking, from 1, counting those before the offset."""
    score: float
    """Larger is better. Comparable within one answer only."""
    title: str
    """Empty where the shop gave none."""
    reasons: list[ReasonBody]
    """What carried the score, where it was asked for by `explain`."""
    metadata: MetadataBody | None = None
    """What a shop shows beside the title, where it was asked for by `metadata`."""


class RecommendationBody(_Body):
    """One answer."""

    recommendation_id: str
    """Names this answer in the log and in the feedback events that it leads to. New for every request."""
    user_id: str
    items: list[RecommendedItemBody]
    """At most k items, best first, none that the user already bought."""
    strategy: Strategy
    """Which rung answered: `personal` (the user's history is known), `session` (what they did lately, or the request's
    history), `seed` (the request's seed items), `category_popular`, or `popular` (nothing is known)."""
    bundle_version: str
    cached: bool
    """Whether the items came from the cache."""
    degraded: list[Degradation]
    """Named ways in which this answer is less than it should be. Empty when all is well."""
    timing_ms: dict[str, float]
    """Stage name -> milliseconds that this request spent in it."""


class RefusalBody(_Body):
    """Why one request of a batch has no answer."""

    status: int
    """The HTTP status that it would have had alone."""
    reason: str
    """Machine-readable name, as in a problem body."""
    detail: str
    errors: list[FieldBody]
    """The fields at fault; empty where no field is."""


class OutcomeBody(_Body):
    """What became of one request of a batch: one of the two is null."""

    recommendation: RecommendationBody | None = None
    error: RefusalBody | None = None


class BatchBody(_Body):
    """One outcome for each request, in order."""

    answers: list[OutcomeBody]


class ItemListBody(_Body):
    """Items that are alike, or popular: an answer that is about no user."""

    recommendation_id: str
    """Names this answer in the log and in the feedback events that it leads to. New for every request."""
    items: list[RecommendedItemBody]
    bundle_version: str
    timing_ms: dict[str, float]
    """Stage name -> milliseconds that this request spent in it."""


class EventsReceiptBody(_Body):
    """What became of the events of one call."""

    accepted: int
    """Events that were new."""
    duplicates: int
    """Events whose `event_id` was known. They count as received."""
    unknown_items: int
    """Of the accepted, those about an item that no one knows; kept, for it may be published later."""
    shared: bool
    """Whether the service's other processes know of them already; false while Redis is away."""


class ItemsReceiptBody(_Body):
    """What became of a change to the live catalogue."""

    accepted: int
    sequence: int
    """Grows with every change. Processes that have reached it show the change."""
    not_embedded: list[str]
    """New items that could not be made searchable, for they have neither text nor image."""


class BundlePartBody(_Body):
    """A bundle with a share of the users or of the requests."""

    version: str
    share: float


class BundlesBody(_Body):
    """Which bundle serves, and which could."""

    serving: str
    previous: str
    """The version that a rollback would serve; empty where there is none."""
    canary: BundlePartBody | None = None
    """The bundle that serves a share of the users."""
    shadow: BundlePartBody | None = None
    """The bundle that is compared on a share of the requests."""
    available: list[str]
    """Versions that could be served, in name order."""
    state: str
    """`ok`, or what keeps the wanted bundle from being served."""


class IndexBody(_Body):
    """The nearest-neighbour index and how much of an exact search it finds."""

    factory: str
    """FAISS factory string."""
    recall_at: dict[int, float]
    """k -> share of the exact top k that the index returns, mean over users."""


class EvaluationBody(_Body):
    """Quality on held-out interactions; full ranking, each user's known items masked."""

    protocol: str
    """How the interactions were split and who was judged."""
    users: int
    metrics: dict[str, float]
    """Metric name -> mean over users."""
    baselines: dict[str, dict[str, float]]
    """Baseline name -> the same metrics on the same split."""


class ModelBody(_Body):
    """What is being served."""

    version: str
    created_at: str
    """RFC 3339, UTC."""
    code_version: str
    data_fingerprint: str
    """Digest of the interactions and items that the bundle was made from."""
    as_of: int
    """Newest interaction that the bundle knows, in unix seconds."""
    num_items: int
    num_users: int
    dim: int
    """Width of the item vectors."""
    num_candidates: int
    """Candidates retrieved for each request."""
    index: IndexBody
    evaluation: EvaluationBody
    parity_max_abs_diff: dict[str, float]
    """ONNX model name -> largest absolute difference to the model it was exported from."""
    encoders: dict[str, str]
    """What was embedded -> name of the pretrained encoder."""


class StatesBody(_Body):
    """Whether the service can answer, and the state of each part."""

    ready: bool
    states: dict[str, str]
    """Part -> state."""


class ProblemBody(_Body):
    """An error, after RFC 9457."""

    type: str
    """URN of the kind of error."""
    title: str
    status: int
    """The HTTP status."""
    detail: str
    """What is wrong with this request, for people."""
    reason: str
    """Machine-readable name; the `reason` of gRPC's ErrorInfo is the same."""
    errors: list[FieldBody]
    """The fields at fault; empty where no field is."""
    request_id: str
    """The `x-request-id` of this exchange."""


def component(model: type[BaseModel]) -> dict[str, Any]:
    """A model and those that it holds as OpenAPI components, by name."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs", {}), model.__name__: schema}

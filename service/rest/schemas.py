"""The JSON bodies as `/docs` shows them. `answers.py` writes without these; a test holds the two together."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from service.domain import Degradation, Strategy


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class RecommendedItemBody(_Body):
    """One item of an answer."""

    item_id: str
    rank: int = Field(ge=1)
    """Place in the answer, from 1."""
    score: float
    """Larger is better. Comparable within one answer only."""
    title: str
    """Empty where the shop gave none."""


class RecommendationBody(_Body):
    """One answer."""

    recommendation_id: str
    """Names this answer in the log and in the feedback events that it leads to. New for every request."""
    user_id: str
    items: list[RecommendedItemBody]
    """At most k items, best first, none that the user already bought."""
    strategy: Strategy
    """Which rung answered: `personal` (the user's history is known) or `popular` (nothing is known)."""
    bundle_version: str
    cached: bool
    """Whether the items came from the cache."""
    degraded: list[Degradation]
    """Named ways in which this answer is less than it should be. Empty when all is well."""
    timing_ms: dict[str, float]
    """Stage name -> milliseconds that this request spent in it."""


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


class FieldBody(_Body):
    """One field of a request and what is wrong with it."""

    field: str
    message: str


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


def problem_schemas() -> dict[str, Any]:
    """The problem body as OpenAPI components, by name."""
    schema = ProblemBody.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), ProblemBody.__name__: schema}

from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RecommendRequest(_message.Message):
    __slots__ = ("user_id", "k", "offset", "history", "seed_items", "category", "filter", "strict_filtering", "exclude_seen", "rules", "modality_weights", "diversity", "explain", "metadata", "deadline_ms", "bundle_version")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    SEED_ITEMS_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    STRICT_FILTERING_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_SEEN_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    MODALITY_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    k: int
    offset: int
    history: _containers.RepeatedCompositeFieldContainer[PastEvent]
    seed_items: _containers.RepeatedScalarFieldContainer[str]
    category: str
    filter: str
    strict_filtering: bool
    exclude_seen: bool
    rules: Rules
    modality_weights: ModalityWeights
    diversity: float
    explain: bool
    metadata: bool
    deadline_ms: int
    bundle_version: str
    def __init__(self, user_id: _Optional[str] = ..., k: _Optional[int] = ..., offset: _Optional[int] = ..., history: _Optional[_Iterable[_Union[PastEvent, _Mapping]]] = ..., seed_items: _Optional[_Iterable[str]] = ..., category: _Optional[str] = ..., filter: _Optional[str] = ..., strict_filtering: bool = ..., exclude_seen: bool = ..., rules: _Optional[_Union[Rules, _Mapping]] = ..., modality_weights: _Optional[_Union[ModalityWeights, _Mapping]] = ..., diversity: _Optional[float] = ..., explain: bool = ..., metadata: bool = ..., deadline_ms: _Optional[int] = ..., bundle_version: _Optional[str] = ...) -> None: ...

class PastEvent(_message.Message):
    __slots__ = ("item_id", "kind", "timestamp")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    kind: str
    timestamp: float
    def __init__(self, item_id: _Optional[str] = ..., kind: _Optional[str] = ..., timestamp: _Optional[float] = ...) -> None: ...

class Rules(_message.Message):
    __slots__ = ("pin", "boost", "bury", "hide")
    PIN_FIELD_NUMBER: _ClassVar[int]
    BOOST_FIELD_NUMBER: _ClassVar[int]
    BURY_FIELD_NUMBER: _ClassVar[int]
    HIDE_FIELD_NUMBER: _ClassVar[int]
    pin: _containers.RepeatedScalarFieldContainer[str]
    boost: _containers.RepeatedCompositeFieldContainer[Promotion]
    bury: _containers.RepeatedCompositeFieldContainer[Promotion]
    hide: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, pin: _Optional[_Iterable[str]] = ..., boost: _Optional[_Iterable[_Union[Promotion, _Mapping]]] = ..., bury: _Optional[_Iterable[_Union[Promotion, _Mapping]]] = ..., hide: _Optional[_Iterable[str]] = ...) -> None: ...

class Promotion(_message.Message):
    __slots__ = ("item_ids", "filter", "strength")
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    filter: str
    strength: float
    def __init__(self, item_ids: _Optional[_Iterable[str]] = ..., filter: _Optional[str] = ..., strength: _Optional[float] = ...) -> None: ...

class ModalityWeights(_message.Message):
    __slots__ = ("look", "meaning", "behaviour")
    LOOK_FIELD_NUMBER: _ClassVar[int]
    MEANING_FIELD_NUMBER: _ClassVar[int]
    BEHAVIOUR_FIELD_NUMBER: _ClassVar[int]
    look: float
    meaning: float
    behaviour: float
    def __init__(self, look: _Optional[float] = ..., meaning: _Optional[float] = ..., behaviour: _Optional[float] = ...) -> None: ...

class RecommendResponse(_message.Message):
    __slots__ = ("recommendation_id", "user_id", "items", "strategy", "bundle_version", "cached", "degraded", "timing_ms")
    class TimingMsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    RECOMMENDATION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    TIMING_MS_FIELD_NUMBER: _ClassVar[int]
    recommendation_id: str
    user_id: str
    items: _containers.RepeatedCompositeFieldContainer[RecommendedItem]
    strategy: str
    bundle_version: str
    cached: bool
    degraded: _containers.RepeatedScalarFieldContainer[str]
    timing_ms: _containers.ScalarMap[str, float]
    def __init__(self, recommendation_id: _Optional[str] = ..., user_id: _Optional[str] = ..., items: _Optional[_Iterable[_Union[RecommendedItem, _Mapping]]] = ..., strategy: _Optional[str] = ..., bundle_version: _Optional[str] = ..., cached: bool = ..., degraded: _Optional[_Iterable[str]] = ..., timing_ms: _Optional[_Mapping[str, float]] = ...) -> None: ...

class RecommendedItem(_message.Message):
    __slots__ = ("item_id", "rank", "score", "title", "reasons", "metadata")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    rank: int
    score: float
    title: str
    reasons: _containers.RepeatedCompositeFieldContainer[Reason]
    metadata: Metadata
    def __init__(self, item_id: _Optional[str] = ..., rank: _Optional[int] = ..., score: _Optional[float] = ..., title: _Optional[str] = ..., reasons: _Optional[_Iterable[_Union[Reason, _Mapping]]] = ..., metadata: _Optional[_Union[Metadata, _Mapping]] = ...) -> None: ...

class Reason(_message.Message):
    __slots__ = ("kind", "weight", "item_id", "effect")
    KIND_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    weight: float
    item_id: str
    effect: float
    def __init__(self, kind: _Optional[str] = ..., weight: _Optional[float] = ..., item_id: _Optional[str] = ..., effect: _Optional[float] = ...) -> None: ...

class Metadata(_message.Message):
    __slots__ = ("category", "brand", "price", "image", "in_stock", "attributes")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    BRAND_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    IN_STOCK_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    category: str
    brand: str
    price: float
    image: str
    in_stock: bool
    attributes: _containers.ScalarMap[str, str]
    def __init__(self, category: _Optional[str] = ..., brand: _Optional[str] = ..., price: _Optional[float] = ..., image: _Optional[str] = ..., in_stock: bool = ..., attributes: _Optional[_Mapping[str, str]] = ...) -> None: ...

class BatchRecommendRequest(_message.Message):
    __slots__ = ("requests", "deadline_ms")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[RecommendRequest]
    deadline_ms: int
    def __init__(self, requests: _Optional[_Iterable[_Union[RecommendRequest, _Mapping]]] = ..., deadline_ms: _Optional[int] = ...) -> None: ...

class BatchRecommendResponse(_message.Message):
    __slots__ = ("answers",)
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[BatchOutcome]
    def __init__(self, answers: _Optional[_Iterable[_Union[BatchOutcome, _Mapping]]] = ...) -> None: ...

class BatchOutcome(_message.Message):
    __slots__ = ("recommendation", "error")
    RECOMMENDATION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    recommendation: RecommendResponse
    error: Refusal
    def __init__(self, recommendation: _Optional[_Union[RecommendResponse, _Mapping]] = ..., error: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("reason", "detail", "errors")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    detail: str
    errors: _containers.RepeatedCompositeFieldContainer[FieldError]
    def __init__(self, reason: _Optional[str] = ..., detail: _Optional[str] = ..., errors: _Optional[_Iterable[_Union[FieldError, _Mapping]]] = ...) -> None: ...

class FieldError(_message.Message):
    __slots__ = ("field", "message")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    field: str
    message: str
    def __init__(self, field: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class RerankRequest(_message.Message):
    __slots__ = ("user_id", "item_ids", "history", "seed_items", "explain", "metadata", "deadline_ms")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    SEED_ITEMS_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    history: _containers.RepeatedCompositeFieldContainer[PastEvent]
    seed_items: _containers.RepeatedScalarFieldContainer[str]
    explain: bool
    metadata: bool
    deadline_ms: int
    def __init__(self, user_id: _Optional[str] = ..., item_ids: _Optional[_Iterable[str]] = ..., history: _Optional[_Iterable[_Union[PastEvent, _Mapping]]] = ..., seed_items: _Optional[_Iterable[str]] = ..., explain: bool = ..., metadata: bool = ..., deadline_ms: _Optional[int] = ...) -> None: ...

class SimilarItemsRequest(_message.Message):
    __slots__ = ("item_id", "k", "by", "modality_weights", "filter", "metadata")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    MODALITY_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    k: int
    by: str
    modality_weights: ModalityWeights
    filter: str
    metadata: bool
    def __init__(self, item_id: _Optional[str] = ..., k: _Optional[int] = ..., by: _Optional[str] = ..., modality_weights: _Optional[_Union[ModalityWeights, _Mapping]] = ..., filter: _Optional[str] = ..., metadata: bool = ...) -> None: ...

class SimilarByContentRequest(_message.Message):
    __slots__ = ("text", "image", "k", "by", "modality_weights", "filter", "metadata")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    MODALITY_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    text: str
    image: bytes
    k: int
    by: str
    modality_weights: ModalityWeights
    filter: str
    metadata: bool
    def __init__(self, text: _Optional[str] = ..., image: _Optional[bytes] = ..., k: _Optional[int] = ..., by: _Optional[str] = ..., modality_weights: _Optional[_Union[ModalityWeights, _Mapping]] = ..., filter: _Optional[str] = ..., metadata: bool = ...) -> None: ...

class PopularRequest(_message.Message):
    __slots__ = ("k", "category", "window_s", "filter", "metadata")
    K_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    WINDOW_S_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    k: int
    category: str
    window_s: float
    filter: str
    metadata: bool
    def __init__(self, k: _Optional[int] = ..., category: _Optional[str] = ..., window_s: _Optional[float] = ..., filter: _Optional[str] = ..., metadata: bool = ...) -> None: ...

class ItemList(_message.Message):
    __slots__ = ("recommendation_id", "items", "bundle_version", "timing_ms")
    class TimingMsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    RECOMMENDATION_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    TIMING_MS_FIELD_NUMBER: _ClassVar[int]
    recommendation_id: str
    items: _containers.RepeatedCompositeFieldContainer[RecommendedItem]
    bundle_version: str
    timing_ms: _containers.ScalarMap[str, float]
    def __init__(self, recommendation_id: _Optional[str] = ..., items: _Optional[_Iterable[_Union[RecommendedItem, _Mapping]]] = ..., bundle_version: _Optional[str] = ..., timing_ms: _Optional[_Mapping[str, float]] = ...) -> None: ...

class WriteEventsRequest(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[FeedbackEvent]
    def __init__(self, events: _Optional[_Iterable[_Union[FeedbackEvent, _Mapping]]] = ...) -> None: ...

class FeedbackEvent(_message.Message):
    __slots__ = ("event_id", "user_id", "item_id", "kind", "timestamp", "recommendation_id")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    RECOMMENDATION_ID_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    user_id: str
    item_id: str
    kind: str
    timestamp: float
    recommendation_id: str
    def __init__(self, event_id: _Optional[str] = ..., user_id: _Optional[str] = ..., item_id: _Optional[str] = ..., kind: _Optional[str] = ..., timestamp: _Optional[float] = ..., recommendation_id: _Optional[str] = ...) -> None: ...

class EventsReceipt(_message.Message):
    __slots__ = ("accepted", "duplicates", "unknown_items", "shared")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_ITEMS_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    accepted: int
    duplicates: int
    unknown_items: int
    shared: bool
    def __init__(self, accepted: _Optional[int] = ..., duplicates: _Optional[int] = ..., unknown_items: _Optional[int] = ..., shared: bool = ...) -> None: ...

class ItemChange(_message.Message):
    __slots__ = ("item_id", "title", "description", "category", "brand", "price", "in_stock", "hidden", "image_url", "image", "attributes")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    BRAND_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    IN_STOCK_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    IMAGE_URL_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    title: str
    description: str
    category: str
    brand: str
    price: float
    in_stock: bool
    hidden: bool
    image_url: str
    image: bytes
    attributes: _containers.ScalarMap[str, str]
    def __init__(self, item_id: _Optional[str] = ..., title: _Optional[str] = ..., description: _Optional[str] = ..., category: _Optional[str] = ..., brand: _Optional[str] = ..., price: _Optional[float] = ..., in_stock: bool = ..., hidden: bool = ..., image_url: _Optional[str] = ..., image: _Optional[bytes] = ..., attributes: _Optional[_Mapping[str, str]] = ...) -> None: ...

class UpsertItemsRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[ItemChange]
    def __init__(self, items: _Optional[_Iterable[_Union[ItemChange, _Mapping]]] = ...) -> None: ...

class PatchItemsRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[ItemChange]
    def __init__(self, items: _Optional[_Iterable[_Union[ItemChange, _Mapping]]] = ...) -> None: ...

class DeleteItemsRequest(_message.Message):
    __slots__ = ("item_ids",)
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, item_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ItemsReceipt(_message.Message):
    __slots__ = ("accepted", "sequence", "not_embedded")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    NOT_EMBEDDED_FIELD_NUMBER: _ClassVar[int]
    accepted: int
    sequence: int
    not_embedded: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, accepted: _Optional[int] = ..., sequence: _Optional[int] = ..., not_embedded: _Optional[_Iterable[str]] = ...) -> None: ...

class ActivateBundleRequest(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: str
    def __init__(self, version: _Optional[str] = ...) -> None: ...

class RollbackBundleRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListBundlesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SetCanaryRequest(_message.Message):
    __slots__ = ("version", "share")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    version: str
    share: float
    def __init__(self, version: _Optional[str] = ..., share: _Optional[float] = ...) -> None: ...

class SetShadowRequest(_message.Message):
    __slots__ = ("version", "share")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    version: str
    share: float
    def __init__(self, version: _Optional[str] = ..., share: _Optional[float] = ...) -> None: ...

class BundleStates(_message.Message):
    __slots__ = ("serving", "previous", "canary", "shadow", "available", "state")
    SERVING_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    CANARY_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    serving: str
    previous: str
    canary: BundleShare
    shadow: BundleShare
    available: _containers.RepeatedScalarFieldContainer[str]
    state: str
    def __init__(self, serving: _Optional[str] = ..., previous: _Optional[str] = ..., canary: _Optional[_Union[BundleShare, _Mapping]] = ..., shadow: _Optional[_Union[BundleShare, _Mapping]] = ..., available: _Optional[_Iterable[str]] = ..., state: _Optional[str] = ...) -> None: ...

class BundleShare(_message.Message):
    __slots__ = ("version", "share")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    version: str
    share: float
    def __init__(self, version: _Optional[str] = ..., share: _Optional[float] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("version", "created_at", "code_version", "data_fingerprint", "as_of", "num_items", "num_users", "dim", "num_candidates", "index", "evaluation", "parity_max_abs_diff", "encoders")
    class ParityMaxAbsDiffEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class EncodersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    CODE_VERSION_FIELD_NUMBER: _ClassVar[int]
    DATA_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    NUM_ITEMS_FIELD_NUMBER: _ClassVar[int]
    NUM_USERS_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    NUM_CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    PARITY_MAX_ABS_DIFF_FIELD_NUMBER: _ClassVar[int]
    ENCODERS_FIELD_NUMBER: _ClassVar[int]
    version: str
    created_at: str
    code_version: str
    data_fingerprint: str
    as_of: int
    num_items: int
    num_users: int
    dim: int
    num_candidates: int
    index: Index
    evaluation: Evaluation
    parity_max_abs_diff: _containers.ScalarMap[str, float]
    encoders: _containers.ScalarMap[str, str]
    def __init__(self, version: _Optional[str] = ..., created_at: _Optional[str] = ..., code_version: _Optional[str] = ..., data_fingerprint: _Optional[str] = ..., as_of: _Optional[int] = ..., num_items: _Optional[int] = ..., num_users: _Optional[int] = ..., dim: _Optional[int] = ..., num_candidates: _Optional[int] = ..., index: _Optional[_Union[Index, _Mapping]] = ..., evaluation: _Optional[_Union[Evaluation, _Mapping]] = ..., parity_max_abs_diff: _Optional[_Mapping[str, float]] = ..., encoders: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Index(_message.Message):
    __slots__ = ("factory", "recall_at")
    class RecallAtEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: float
        def __init__(self, key: _Optional[int] = ..., value: _Optional[float] = ...) -> None: ...
    FACTORY_FIELD_NUMBER: _ClassVar[int]
    RECALL_AT_FIELD_NUMBER: _ClassVar[int]
    factory: str
    recall_at: _containers.ScalarMap[int, float]
    def __init__(self, factory: _Optional[str] = ..., recall_at: _Optional[_Mapping[int, float]] = ...) -> None: ...

class Evaluation(_message.Message):
    __slots__ = ("protocol", "users", "metrics", "baselines")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class BaselinesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Metrics
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Metrics, _Mapping]] = ...) -> None: ...
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    BASELINES_FIELD_NUMBER: _ClassVar[int]
    protocol: str
    users: int
    metrics: _containers.ScalarMap[str, float]
    baselines: _containers.MessageMap[str, Metrics]
    def __init__(self, protocol: _Optional[str] = ..., users: _Optional[int] = ..., metrics: _Optional[_Mapping[str, float]] = ..., baselines: _Optional[_Mapping[str, Metrics]] = ...) -> None: ...

class Metrics(_message.Message):
    __slots__ = ("metrics",)
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    METRICS_FIELD_NUMBER: _ClassVar[int]
    metrics: _containers.ScalarMap[str, float]
    def __init__(self, metrics: _Optional[_Mapping[str, float]] = ...) -> None: ...

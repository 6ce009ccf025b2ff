"""The JSON bodies that callers send, as `/docs` shows them.

Requests are read without these, by `service.validation`; a test holds the two together.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from service.domain import MAX_BATCH, MAX_DEPTH, MAX_EVENTS, MAX_K, MAX_LISTED, By, FeedbackKind
from service.validation.changes import MAX_ATTRIBUTES, MAX_DESCRIPTION_BYTES, MAX_PRICE, MAX_TITLE_BYTES
from service.validation.picture import MAX_IMAGE_BYTES
from service.validation.queries import DEFAULT_K, MAX_DEADLINE_MS, MAX_PROMOTIONS, MAX_TEXT_BYTES

Ids = list[str]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class PastEventBody(_Body):
    """One thing that the shopper of a request did before."""

    item_id: str = Field(min_length=1)
    """An item that no one knows is passed over."""
    kind: FeedbackKind = FeedbackKind.VIEW
    timestamp: float | None = Field(default=None, ge=0)
    """Unix seconds; now where absent."""


class PromotionBody(_Body):
    """Items that move together: those named, or those that pass a filter."""

    item_ids: Ids = Field(default=[], max_length=MAX_LISTED)
    filter: str = ""
    strength: float = Field(ge=0, le=1)
    """Of the range of the candidates' scores: 1 moves the last before the first."""


class RulesBody(_Body):
    """What a merchandiser moves in one answer. Hiding wins over pinning, and a filter over both."""

    pin: Ids = Field(default=[], max_length=MAX_LISTED)
    """Items that stand first, in this order."""
    boost: list[PromotionBody] = Field(default=[], max_length=MAX_PROMOTIONS)
    bury: list[PromotionBody] = Field(default=[], max_length=MAX_PROMOTIONS)
    hide: Ids = Field(default=[], max_length=MAX_LISTED)


class ModalityWeightsBody(_Body):
    """How much each respect counts, relative to the others; not all of them 0."""

    look: float = Field(default=0, ge=0, le=1)
    """Likeness by image."""
    meaning: float = Field(default=0, ge=0, le=1)
    """Likeness by text."""
    behaviour: float = Field(default=0, ge=0, le=1)
    """The model's own score."""


class RecommendRequestBody(_Body):
    """One request for recommendations. `user_id` may be left out where history, seed_items or category is given."""

    user_id: str = ""
    """The shop's own name of the user: any text of up to 512 bytes of UTF-8."""
    k: int = Field(default=DEFAULT_K, ge=1, le=MAX_K)
    offset: int = Field(default=0, ge=0, lt=MAX_DEPTH)
    """How many items of the ranking to pass over first; with k at most 1,000."""
    history: list[PastEventBody] = Field(default=[], max_length=MAX_LISTED)
    """What the shopper did before, oldest first, on top of what is known of them."""
    seed_items: Ids = Field(default=[], max_length=MAX_LISTED)
    """Items of the page or the cart that the answer should go with, never in the answer themselves."""
    category: str = ""
    """The category of the page: its popular items answer where nothing else is known."""
    filter: str = ""
    """Which items may be answered."""
    strict_filtering: bool = True
    """False: where too few items pass the filter, popular ones fill the answer."""
    exclude_seen: bool = True
    """Whether items that the user bought or disliked are left out."""
    rules: RulesBody | None = None
    modality_weights: ModalityWeightsBody | None = None
    diversity: float = Field(default=0, ge=0, le=1)
    """How much an item's likeness to those before it counts against it."""
    explain: bool = False
    """Whether each item carries the reasons for its score."""
    metadata: bool = False
    """Whether each item carries category, brand, price, image, stock and attributes."""
    deadline_ms: int | None = Field(default=None, ge=1, le=MAX_DEADLINE_MS)
    """Milliseconds within which the answer is of use."""
    bundle_version: str = ""
    """Ask this one of the loaded bundles."""


class BatchRequestBody(_Body):
    """Several requests."""

    requests: list[RecommendRequestBody] = Field(min_length=1, max_length=MAX_BATCH)
    deadline_ms: int | None = Field(default=None, ge=1, le=MAX_DEADLINE_MS)
    """For all of them."""


class RerankRequestBody(_Body):
    """A list to be put in a user's order."""

    user_id: str = ""
    item_ids: Ids = Field(min_length=1, max_length=MAX_DEPTH)
    """None twice; those that no one knows are left out."""
    history: list[PastEventBody] = Field(default=[], max_length=MAX_LISTED)
    seed_items: Ids = Field(default=[], max_length=MAX_LISTED)
    explain: bool = False
    metadata: bool = False
    deadline_ms: int | None = Field(default=None, ge=1, le=MAX_DEADLINE_MS)


class SimilarRequestBody(_Body):
    """What is like a text, a picture, or both; one of them has to be given."""

    text: str = Field(default="", max_length=MAX_TEXT_BYTES)
    image: str = Field(default="", max_length=4 * (MAX_IMAGE_BYTES + 2) // 3)
    """The picture's bytes in base64: JPEG, PNG, WebP or GIF."""
    k: int = Field(default=DEFAULT_K, ge=1, le=MAX_K)
    by: By = By.BLEND
    modality_weights: ModalityWeightsBody | None = None
    """In place of `by`."""
    filter: str = ""
    metadata: bool = False


class EventBody(_Body):
    """One thing that a shopper did."""

    event_id: str = Field(min_length=1)
    """Names the event: sent twice, it counts once."""
    user_id: str = Field(min_length=1)
    item_id: str = Field(min_length=1)
    kind: FeedbackKind
    timestamp: float | None = Field(default=None, ge=0)
    """Unix seconds, not more than a day ahead; now where absent."""
    recommendation_id: str = Field(default="", max_length=128)
    """The answer that showed the item; empty where no answer did."""


class EventsRequestBody(_Body):
    """What shoppers did."""

    events: list[EventBody] = Field(min_length=1, max_length=MAX_EVENTS)


class ItemBody(_Body):
    """What a shop says of one item. A field that is absent or null stays as it is."""

    item_id: str | None = Field(default=None, min_length=1)
    """In a list; where the path names the item, it may be left out."""
    title: str | None = Field(default=None, max_length=MAX_TITLE_BYTES)
    description: str | None = Field(default=None, max_length=MAX_DESCRIPTION_BYTES)
    category: str | None = None
    brand: str | None = None
    price: float | None = Field(default=None, ge=0, le=MAX_PRICE)
    in_stock: bool | None = None
    """Items that are not are in no answer."""
    hidden: bool | None = None
    """Whether the item is kept out of every answer."""
    image_url: str | None = Field(default=None, max_length=2048)
    """What is answered as the item's image. It is not fetched."""
    image: str | None = Field(default=None, max_length=4 * (MAX_IMAGE_BYTES + 2) // 3)
    """The picture itself, in base64: JPEG, PNG, WebP or GIF."""
    attributes: dict[str, str] | None = Field(default=None, max_length=MAX_ATTRIBUTES)
    """Further columns that filters know."""


class ItemsRequestBody(_Body):
    """Exactly one of the three."""

    upsert: list[ItemBody] | None = Field(default=None, min_length=1, max_length=MAX_EVENTS)
    """Items to add or to change."""
    patch: list[ItemBody] | None = Field(default=None, min_length=1, max_length=MAX_EVENTS)
    """Known items to change."""
    delete: Ids | None = Field(default=None, min_length=1, max_length=MAX_EVENTS)
    """Items to take out of every answer."""


class BundleShareBody(_Body):
    """A bundle, and the share of the users or of the requests that it gets."""

    version: str = ""
    """May be left out where the share is 0."""
    share: float = Field(ge=0, le=1)
    """0 ends it."""


REQUEST_BODIES: tuple[type[BaseModel], ...] = (
    RecommendRequestBody,
    BatchRequestBody,
    RerankRequestBody,
    SimilarRequestBody,
    EventsRequestBody,
    ItemBody,
    ItemsRequestBody,
    BundleShareBody,
)
"""Those that routes name."""

"""Size and make of a generated shop, and which sizes can be had at all."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.errors import InputError

BOUGHT = (8, 12)
"""A planted shopper's purchases in the cluster of a compact shop, both ends included."""
EVIDENCE = 3
"""A held-out item was bought by at least so many others."""
PURCHASES_PER_ITEM = 26.812
"""Of Amazon Electronics 2014, 5-core: 1,689,188 interactions of 63,001 items."""


class GeneratedShopSettings(BaseModel):
    """Size and make of a generated shop."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    items: int = Field(default=2000, ge=40, le=2_000_000)
    """Items in the catalog, sold or not."""
    users: int = Field(default=3000, ge=20, le=2_000_000)
    """Shoppers, each with at least one purchase."""
    interactions: int | None = Field(default=None, ge=100, le=100_000_000)
    """Purchases, exactly so many, with the long tails of a large shop. Left out, a compact shop is made: every planted
    shopper buys 8 to 12 items of one cluster, and what to recommend next fits into a list of ten."""
    warm_items: int | None = Field(default=None, ge=10)
    """Items with purchases. Left out: about nine in ten, or with `interactions` one for every 26.8 of them, as in
    Amazon Electronics (63,001 of 498,196 items at its size)."""
    min_purchases: int = Field(default=5, ge=1, le=20)
    """With `interactions`: every shopper and every warm item has at least so many (the core of the data set)."""
    seed: int = Field(default=0, ge=0)
    """The same settings and seed give the same files, byte for byte."""
    planted_share: float = Field(default=0.7, ge=0, le=1)
    """Share of shoppers with a planted taste; the others follow popularity."""
    cluster_size: int = Field(default=18, ge=15, le=60)
    """Items in a taste cluster. Above 18 a held-out item may rightly miss a list of ten."""
    cold_share: float = Field(default=0.1, ge=0, le=0.5)
    """Share of each sold cluster that nobody bought."""
    other_purchases: float = Field(default=6.0, ge=1, le=30)
    """Mean purchases of a shopper without planted taste, in a shop without `interactions`."""
    days: int | None = Field(default=None, ge=3, le=7300)
    """Calendar days that the purchases span; left out 30, with `interactions` ten years."""
    image_share: float = Field(default=0.95, ge=0, le=1)
    """Share of items with a picture; 0 draws none."""
    image_url: str = Field(default="http://images.example/", pattern=r"^https?://[^\s'\"\\]+/$")
    """Where the metadata says that the pictures are: `<image_url><asin>.jpg`."""
    missing_description_share: float = Field(default=0.08, ge=0, le=1)
    """Share of items without a description."""
    missing_price_share: float = Field(default=0.1, ge=0, le=1)
    """Share of items without a price."""
    uncompressed: bool = False
    """Write .json rather than .json.gz."""
    processes: int = Field(default=0, ge=0, le=64)
    """Processes to write with; 0 takes every core. The files do not depend on it."""

    @model_validator(mode="after")
    def _room_to_plant(self) -> GeneratedShopSettings:
        if self.warm_slots <= BOUGHT[1]:
            raise ValueError(f"a cluster needs more than {BOUGHT[1]} bought items: lower cold_share")
        if self.items < self.cluster_size * 2:
            raise ValueError("items must fill at least two clusters")
        return self

    @property
    def warm_slots(self) -> int:
        """Bought items of a sold cluster."""
        return self.cluster_size - round(self.cluster_size * self.cold_share)

    @property
    def clusters(self) -> int:
        """Taste clusters in the catalog; the last slot of some is empty."""
        return -(-self.items // self.cluster_size)

    @property
    def room(self) -> int:
        """Most items that can be warm: the warm slots of every cluster that are not empty."""
        full, rest = divmod(self.items, self.clusters)
        return min(full, self.warm_slots) * self.clusters + (rest if full < self.warm_slots else 0)

    @property
    def warm(self) -> int:
        """Items with purchases: exact with `interactions`, else the size of the clusters that are sold."""
        if self.warm_items is not None:
            return self.warm_items
        if self.interactions is None:
            return self.room
        return max(min(round(self.interactions / PURCHASES_PER_ITEM), self.room), min(2 * self.warm_slots, self.room))

    @property
    def span_days(self) -> int:
        """Calendar days that the purchases span."""
        return self.days or (30 if self.interactions is None else 3650)


def check_possible(settings: GeneratedShopSettings) -> None:
    """Raise InputError where no shop of that shape can be: too many warm items, too few or too many purchases."""
    warm = settings.warm
    if warm > settings.room:
        raise InputError(
            f"of {settings.items:,} items at most {settings.room:,} can be warm, got {warm:,}",
            where="--warm-items",
            todo="Lower it, or lower --cold-share",
        )
    if settings.interactions is None:
        return
    least = settings.min_purchases * max(settings.users, warm)
    most = settings.users * warm // 4
    if settings.interactions < least:
        raise InputError(
            f"{settings.users:,} shoppers and {warm:,} warm items, each with at least {settings.min_purchases} "
            f"purchases, need {least:,}, got {settings.interactions:,}",
            where="--interactions",
            todo="Raise it, or lower --users, --warm-items or --min-purchases",
        )
    if settings.interactions > most:
        raise InputError(
            f"{settings.users:,} shoppers and {warm:,} warm items have room for {most:,} purchases (a quarter of all "
            f"pairs), got {settings.interactions:,}",
            where="--interactions",
            todo="Lower it, or raise --users or --warm-items",
        )

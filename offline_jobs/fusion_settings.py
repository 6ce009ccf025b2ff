"""The settings of the stage `fusion`: read by what fits, what measures and what writes, and importing none of them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class FusionSettings(BaseModel):
    """How the fused item vectors are learned."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    modalities: str = "text,image"
    """What is fused, by name: text,image and any of lexical, category, brand, price, rating, reviews."""
    dim: int = Field(128, ge=8)
    """Length of a fused vector."""
    hidden: int = Field(256, ge=8)
    """Width of the hidden layer."""
    epochs: int = Field(24, ge=0)
    """At most so many passes; 0 keeps the PCA that the network starts from."""
    patience: int = Field(3, ge=1)
    """Passes without a clearly better validation recall (half a percent of it) before learning stops."""
    pairs_per_epoch: int = Field(50_000, ge=1)
    """At most so many co-bought pairs in one pass, drawn anew each time: with `epochs` it bounds the steps."""
    batch_pairs: int = Field(1024, ge=2)
    """Pairs in one step; the other pairs' items are the negatives."""
    learning_rate: float = Field(1e-3, gt=0)
    """Adam's step size."""
    temperature: float = Field(0.1, gt=0)
    """Cosines are divided by this before the softmax over co-bought pairs."""
    popularity: float = Field(0.5, ge=0, le=1)
    """How much of an item's popularity is learned: 1 is the softmax over all items, 0 what pairs say beyond it."""
    align_weight: float = Field(0.1, ge=0)
    """Weight of the loss that brings an item's picture and its own text together."""
    align_temperature: float = Field(0.1, gt=0)
    """Cosines are divided by this before the softmax over pictures and texts."""
    align_items: int = Field(512, ge=2)
    """Items of one step whose picture and text are brought together."""
    live_share: float = Field(0.25, ge=0, le=1)
    """Share of a step's items shown with text and image alone, as a shop's new item comes to the service."""
    window_days: float = Field(7.0, gt=0)
    """Two purchases of one shopper at most so many days apart make a pair."""
    reach: int = Field(10, ge=1)
    """Two purchases of one shopper at most so many purchases apart make a pair."""
    judged_queries: int = Field(2_000, ge=1)
    """At most so many items whose co-bought items are looked for, each of warm and cold, after each pass."""
    judged_candidates: int = Field(50_000, ge=1)
    """At most so many items among which they are looked for: all that are co-bought, and a sample."""
    seed: int = 0
    """Seed of the weights, the pairs' order and the hidden modalities."""

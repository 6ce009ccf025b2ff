"""How the GAT is fitted: settings, each with what it means."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class FitSettings(BaseModel):
    """How the GAT is fitted."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    width: int = Field(127, ge=7)
    """Width of a network's vectors; stored vectors have one more column, that of popularity."""
    members: int = Field(1, ge=1)
    """Networks that differ by seed alone; their vectors stand side by side, so that the answer is their mean."""
    relations: str = Field("text_knn=0.8,image_knn=0.2,linear=1", pattern=r"^(\w+=[0-9.]+)(,\w+=[0-9.]+)*$")
    """Edge types that the network sees, and where the gain of each starts."""
    fixed_gains: bool = False
    """Keep these gains, that of the trip's neighbors and that of popularity where they start."""
    linear_edges: int = Field(20, ge=1)
    """Edges an item of the linear graph that the network sees."""
    heads: int = Field(4, ge=0)
    """Attention heads a relation; without any, neighbors count as the graph weighs them."""
    head_dim: int = Field(8, ge=1)
    """Width of a head's queries and keys."""
    rounds: int = Field(2, ge=0)
    """User-item round trips."""
    spectral: int = Field(0, ge=0)
    """Leading eigenvectors of the item graph that are content too."""
    max_epochs: int = Field(24, ge=1)
    """Most epochs; the validation split chooses how many are kept."""
    judge_every: int = Field(1, ge=1)
    """Epochs between two looks at the validation split."""
    patience: int = Field(3, ge=1)
    """Epochs without a clearly better validation recall@20 (by 0.2 %) before fitting stops."""
    learning_rate: float = Field(0.003, gt=0)
    """Adam's step size."""
    temperature: float = Field(0.15, gt=0)
    """Divides the cosine between shopper and item."""
    batch_size: int = Field(4096, ge=1)
    """Shoppers a step."""
    negatives: int = Field(1500, ge=1)
    """Items drawn for each step and shared by its batch."""
    hidden_share: float = Field(0.5, gt=0, lt=1)
    """Share of the interactions hidden in an epoch."""
    identity_dropout: float = Field(0.3, ge=0, lt=1)
    """Share of items that lose their own vector in a step, so that content learns to stand alone."""
    popularity_half_life: float = Field(0.35, gt=0)
    """Age at which a purchase counts half for popularity, as a share of the data's time span."""
    history_length: int = Field(50, ge=1)
    """Most past events of a shopper that the model looks at."""
    seed: int = 0
    """Seeds weights, hidden edges and negatives."""

    def gains(self) -> dict[str, float]:
        """Relation -> where its gain starts."""
        return {name: float(gain) for name, gain in (pair.split("=") for pair in self.relations.split(","))}

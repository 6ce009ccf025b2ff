"""The manifest: what a bundle says of itself. `protos/bundle_manifest.schema.json` is generated from these classes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT_VERSION: Literal[1] = 1

Sha256 = Field(pattern=r"^[0-9a-f]{64}$")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Artifact(_Frozen):
    """One file of the bundle; its path in the bundle is its key in `Manifest.files`."""

    sha256: str = Sha256
    size: int = Field(ge=0)
    """Bytes."""
    dtype: str | None = None
    """NumPy dtype string of an array file, for example `<f4`."""
    shape: tuple[int, ...] | None = None
    """Shape of an array file."""


class TensorSpec(_Frozen):
    """One ONNX input or output: element type and shape, a name where a dimension is free."""

    dtype: Literal["float32"] = "float32"
    shape: tuple[int | str, ...]


class OnnxModel(_Frozen):
    """One ONNX file and how closely it follows the torch model that it was exported from."""

    opset: int
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    parity_max_abs_diff: float = Field(ge=0)
    """Largest absolute difference to torch over the parity cases, in units of the output."""
    parity_cases: int = Field(gt=0)


class FaissIndex(_Frozen):
    """The FAISS index over `item_vectors`; its labels are item rows."""

    factory: str
    """FAISS factory string, for example `HNSW32,Flat`."""
    metric: Literal["inner_product"] = "inner_product"
    dim: int = Field(gt=0)
    ntotal: int = Field(gt=0)
    ef_search: int | None = None
    """HNSW's search depth that the recall was measured at; None where the index has none."""
    recall_at: dict[int, float]
    """k -> share of the exact top k that the index returns, mean over `queries` shoppers."""
    queries: int = Field(gt=0)


class Encoder(_Frozen):
    """Which pretrained encoder made an embedding table."""

    name: str
    sha256: str
    dim: int


class Evaluation(_Frozen):
    """Quality on held-out interactions; full ranking, each shopper's known items masked."""

    protocol: str
    """How the split was made and who was judged."""
    users: int
    metrics: dict[str, float]
    """Metric name (`recall@20`) -> mean over shoppers."""
    baselines: dict[str, dict[str, float]]
    """Baseline name -> the same metrics on the same split."""


class Manifest(_Frozen):
    """Everything the server must know before it maps a single file."""

    format_version: Literal[1] = FORMAT_VERSION
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    created_at: str
    """RFC 3339, UTC. Not part of the version's digest."""
    code_version: str
    """Version of plotpointe, with the commit where it is known."""
    data_fingerprint: str
    """Digest of the ingested interactions and items."""
    as_of: int
    """Unix seconds of the newest interaction; ages of events count from here, or from the shopper's newest event."""
    num_items: int = Field(gt=0)
    num_users: int = Field(ge=0)
    dim: int = Field(gt=0)
    """Width of item, history and user vectors."""
    history_length: int = Field(gt=0)
    """Most history events the towers take (L)."""
    num_candidates: int = Field(gt=0)
    """Candidates retrieved by default (C)."""
    relations: tuple[str, ...]
    """Edge types of the item graph, in the order of the re-ranker's `edges` input."""
    index: FaissIndex
    models: dict[str, OnnxModel]
    """`user_tower`, `reranker`, `item_tower`, `fusion`."""
    encoders: dict[str, Encoder]
    evaluation: Evaluation
    files: dict[str, Artifact]

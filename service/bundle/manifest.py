"""The manifest: what a bundle says of itself. `protos/bundle_manifest.schema.json` is generated from these classes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

FORMAT_VERSION: Literal[2] = 2
"""What is written. 2 added the content table, attributes and online encoders; 1, which has none, is still read."""

Sha256 = Field(pattern=r"^[0-9a-f]{64}$")
AttributeName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


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

    dtype: Literal["float32", "int32", "uint8"] = "float32"
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


class EncoderParity(_Frozen):
    """How closely an online encoder, run as the service runs it, follows the table that the offline jobs made."""

    cases: int = Field(gt=0)
    """Items of the catalog that were encoded again, one at a time."""
    min_cosine: float = Field(ge=-1, le=1)
    mean_cosine: float = Field(ge=-1, le=1)
    """Below 1 where the offline batch had a range of its own (int8), or another precision."""


class OnlineTextEncoder(_Frozen):
    """`text_encoder.onnx` with `text_tokenizer.json`: tokens and mask int32 (b, s) to unit vectors (b, 384)."""

    precision: str
    """What the graph computes in: fp32, int8, or int8-7bit for CPUs whose sums of 8-bit products overflow."""
    pooling: Literal["mean", "cls"]
    """How tokens become one vector; the graph does it, and the unit length."""
    max_tokens: int = Field(gt=0)
    """Longest text, in tokens; the rest is cut off."""
    padding_token: int = Field(ge=0)
    lower: bool
    """Whether a text is put into lower case before the tokenizer sees it."""
    prompt: str
    """What is put before each text."""
    fields: tuple[str, ...]
    """The parts of an item that make its text, in order; see `service/item_texts.py`."""
    parity: EncoderParity


class OnlineImageEncoder(_Frozen):
    """`image_encoder.onnx`: pixels uint8 (b, side, side, 3) RGB to unit vectors (b, 512).

    Normalisation of the pixels and the catalog's own projection are in the graph.
    """

    side: int = Field(gt=0)
    """Pixels."""
    framing: Literal["padded"]
    """padded: the whole picture in the middle of a white square."""
    parity: EncoderParity


class OnlineEncoders(_Frozen):
    """The encoders that the bundle holds for new items and content queries; None where it holds none."""

    text: OnlineTextEncoder | None = None
    image: OnlineImageEncoder | None = None


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

    format_version: Literal[1, 2] = FORMAT_VERSION
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
    online_encoders: OnlineEncoders = OnlineEncoders()
    attributes: tuple[AttributeName, ...] = Field(default=(), max_length=64)
    """Further columns of the catalog that can be filtered by: `attribute.<name>.codes.npy` and its names."""
    evaluation: Evaluation
    files: dict[str, Artifact]

    @property
    def has_content(self) -> bool:
        """Whether the bundle holds `content.npy`, which new items are embedded by."""
        return self.format_version >= 2

    @model_validator(mode="after")
    def _as_its_version(self) -> Self:
        if self.format_version == 1 and (self.attributes or self.online_encoders != OnlineEncoders()):
            raise ValueError("format version 1 has neither attributes nor online encoders")
        if len(set(self.attributes)) < len(self.attributes):
            raise ValueError("an attribute is named twice")
        return self

"""The tensors that each ONNX model of a bundle takes and gives: the contract between exporter and server.

b = requests in the call, C = candidates, L = history events, K = neighbors, R = relations, d = the bundle's `dim`.
"""

from __future__ import annotations

from service.bundle.manifest import TensorSpec

USER_TOWER = "user_tower"
RERANKER = "reranker"
ITEM_TOWER = "item_tower"
FUSION = "fusion"
TEXT_ENCODER = "text_encoder"
IMAGE_ENCODER = "image_encoder"

TEXT_DIM = 384
IMAGE_DIM = 512
FUSED_DIM = 128


def _spec(*shape: int | str) -> TensorSpec:
    return TensorSpec(shape=shape)


Signature = tuple[dict[str, TensorSpec], dict[str, TensorSpec]]
"""Inputs and outputs by name."""


def text_encoder_signature() -> Signature:
    """s = tokens of the longest text, 0 in `mask` where a shorter one is padded; unit rows come out."""
    tokens = TensorSpec(dtype="int32", shape=("b", "s"))
    return {"tokens": tokens, "mask": tokens}, {"vectors": _spec("b", TEXT_DIM)}


def image_encoder_signature(side: int) -> Signature:
    """RGB pixels of square pictures, `side` x `side`; unit rows come out."""
    return (
        {"images": TensorSpec(dtype="uint8", shape=("b", side, side, 3))},
        {"vectors": _spec("b", IMAGE_DIM)},
    )


def signatures(dim: int, num_relations: int) -> dict[str, Signature]:
    """Model name -> (inputs, outputs), for vectors of width `dim` and `num_relations` edge types."""
    history = {
        "history_vectors": _spec("b", "L", dim),
        "history_mask": _spec("b", "L"),
        "history_age_days": _spec("b", "L"),
    }
    return {
        USER_TOWER: (history, {"user_vector": _spec("b", dim)}),
        RERANKER: (
            {
                "candidate_vectors": _spec("b", "C", dim),
                "candidate_scores": _spec("b", "C"),
                "candidate_popularity": _spec("b", "C"),
                **history,
                "edges": _spec("b", "C", "L", num_relations),
            },
            {"scores": _spec("b", "C"), "attention": _spec("b", "C", "L")},
        ),
        ITEM_TOWER: (
            {
                "fused": _spec("b", FUSED_DIM),
                "neighbor_vectors": _spec("b", "K", dim),
                "neighbor_weights": _spec("b", "K"),
            },
            {"item_vector": _spec("b", dim)},
        ),
        FUSION: (
            {
                "text": _spec("b", TEXT_DIM),
                "image": _spec("b", IMAGE_DIM),
                "text_present": _spec("b", 1),
                "image_present": _spec("b", 1),
            },
            {name: _spec("b", FUSED_DIM) for name in ("fused", "look", "meaning")},
        ),
    }

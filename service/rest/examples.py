"""Bodies that `/docs` shows. A test validates each against its schema."""

from __future__ import annotations

RECOMMENDATION = {
    "recommendation_id": "0192f0c4b7a17cc3a5d3f6b1a7d4a911",
    "user_id": "user-0001",
    "items": [
        {"item_id": "B00FAKE001", "rank": 1, "score": 3.25, "title": "Wireless mouse"},
        {"item_id": "B00FAKE002", "rank": 2, "score": 2.5, "title": "Mouse pad"},
    ],
    "strategy": "personal",
    "bundle_version": "20250922-1f3a9c",
    "cached": False,
    "degraded": [],
    "timing_ms": {"retrieve": 0.71, "rerank": 0.42},
}

REFUSED = {
    "type": "urn:plotpointe:error:invalid-argument",
    "title": "Invalid request",
    "status": 400,
    "detail": "k must be a whole number from 1 to 200",
    "reason": "INVALID_ARGUMENT",
    "errors": [{"field": "k", "message": "k must be a whole number from 1 to 200"}],
    "request_id": "checkout-7f3c",
}

NOT_READY = {
    "type": "urn:plotpointe:error:not-ready",
    "title": "Not ready",
    "status": 503,
    "detail": "the service is draining",
    "reason": "NOT_READY",
    "errors": [],
    "request_id": "checkout-7f3c",
}

MODEL = {
    "version": "20250922-1f3a9c",
    "created_at": "2025-09-22T03:10:00Z",
    "code_version": "0.1.0",
    "data_fingerprint": "9f2c",
    "as_of": 1_758_499_200,
    "num_items": 21_986,
    "num_users": 60_000,
    "dim": 128,
    "num_candidates": 200,
    "index": {"factory": "HNSW32,Flat", "recall_at": {"200": 0.985}},
    "evaluation": {
        "protocol": "last day, items not bought before",
        "users": 1_696,
        "metrics": {"recall@20": 0.1, "ndcg@20": 0.06},
        "baselines": {"popularity": {"recall@20": 0.04, "ndcg@20": 0.02}},
    },
    "parity_max_abs_diff": {"reranker": 1.2e-6, "user_tower": 8e-7},
    "encoders": {"text": "all-MiniLM-L6-v2", "image": "ViT-B-32"},
}

READY = {"ready": True, "states": {"bundle": "serving 20250922-1f3a9c"}}

DRAINING = {"ready": False, "states": {"bundle": "draining"}}

"""Bodies that `/docs` shows. A test validates each against its schema."""

from __future__ import annotations

RECOMMENDATION = {
    "recommendation_id": "0192f0c4b7a17cc3a5d3f6b1a7d4a911",
    "user_id": "user-0001",
    "items": [
        {
            "item_id": "B00FAKE001",
            "rank": 1,
            "score": 3.25,
            "title": "Wireless mouse",
            "reasons": [
                {"kind": "history", "weight": 0.75, "item_id": "B00FAKE007", "effect": 0.5},
                {"kind": "others", "weight": 0.25, "item_id": "", "effect": 0.125},
            ],
            "metadata": {
                "category": "Mice",
                "brand": "Squeak",
                "price": 24.9,
                "image": "https://shop.example/B00FAKE001.jpg",
                "in_stock": True,
                "attributes": {"color": "red"},
            },
        },
        {
            "item_id": "B00FAKE002",
            "rank": 2,
            "score": 2.5,
            "title": "Mouse pad",
            "reasons": [],
            "metadata": None,
        },
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

UNKNOWN_ITEM = {
    "type": "urn:plotpointe:error:item-not-found",
    "title": "No such item",
    "status": 404,
    "detail": "no item is known as 'B00FAKE404'",
    "reason": "ITEM_NOT_FOUND",
    "errors": [{"field": "item_id", "message": "no item is known as 'B00FAKE404'"}],
    "request_id": "checkout-7f3c",
}


def _problem(status: int, reason: str, title: str, detail: str) -> dict[str, object]:
    """A problem body that names no field."""
    return {
        "type": f"urn:plotpointe:error:{reason.lower().replace('_', '-')}",
        "title": title,
        "status": status,
        "detail": detail,
        "reason": reason,
        "errors": [],
        "request_id": "checkout-7f3c",
    }


TOO_LARGE = _problem(413, "REQUEST_TOO_LARGE", "Request too large", "the body has more than 1048576 bytes")
NO_ENCODER = _problem(501, "ENCODER_UNAVAILABLE", "No encoder", "the bundle holds no encoder for images")
UNAUTHENTICATED = _problem(401, "UNAUTHENTICATED", "Not authenticated", "the admin key is missing or wrong")
LATE = _problem(504, "DEADLINE_EXCEEDED", "Deadline exceeded", "there was no answer before the deadline")
NO_BUNDLE = _problem(404, "BUNDLE_MISSING", "No such bundle", "there is no bundle 20250921-77ab01")
BUNDLE_REFUSED = _problem(409, "BUNDLE_CORRUPT", "Bundle corrupt", "items.index: the checksum is another")

RECOMMEND_REQUEST = {
    "user_id": "user-0001",
    "k": 10,
    "history": [{"item_id": "B00FAKE007", "kind": "view"}, {"item_id": "B00FAKE009", "kind": "cart"}],
    "seed_items": ["B00FAKE003"],
    "filter": 'category: ANY("Mice", "Keyboards") AND price < 50',
    "rules": {"pin": ["B00FAKE011"], "boost": [{"filter": 'brand: ANY("Squeak")', "strength": 0.2}]},
    "modality_weights": {"look": 0.2, "meaning": 0.2, "behaviour": 0.6},
    "diversity": 0.3,
    "explain": True,
    "deadline_ms": 50,
}
BATCH_REQUEST = {
    "requests": [{"user_id": "user-0001", "k": 10}, {"user_id": "user-0002", "bundle_version": "v0"}],
    "deadline_ms": 100,
}
BATCH = {
    "answers": [
        {"recommendation": RECOMMENDATION, "error": None},
        {
            "recommendation": None,
            "error": {
                "status": 404,
                "reason": "BUNDLE_MISSING",
                "detail": "there is no bundle v0",
                "errors": [],
            },
        },
    ]
}
RERANK_REQUEST = {"user_id": "user-0001", "item_ids": ["B00FAKE003", "B00FAKE001", "B00FAKE002"]}
SIMILAR_REQUEST = {"text": "small red mouse without a cable", "k": 10, "filter": "price < 50"}
ITEM_LIST = {
    "recommendation_id": "0192f0c4b7a17cc3a5d3f6b1a7d4a912",
    "items": RECOMMENDATION["items"],
    "bundle_version": "20250922-1f3a9c",
    "timing_ms": {"similar": 0.31},
}
EVENTS_REQUEST = {
    "events": [
        {
            "event_id": "7f3c-1",
            "user_id": "user-0001",
            "item_id": "B00FAKE001",
            "kind": "click",
            "timestamp": 1_758_499_321.5,
            "recommendation_id": "0192f0c4b7a17cc3a5d3f6b1a7d4a911",
        }
    ]
}
EVENTS_RECEIPT = {"accepted": 1, "duplicates": 0, "unknown_items": 0, "shared": True}
ITEM = {
    "title": "Wireless mouse",
    "description": "Small, quiet, two batteries included.",
    "category": "Mice",
    "brand": "Squeak",
    "price": 24.9,
    "in_stock": True,
    "image_url": "https://shop.example/B00FAKE001.jpg",
    "attributes": {"color": "red"},
}
ITEMS_REQUEST = {"patch": [{"item_id": "B00FAKE001", "price": 19.9}, {"item_id": "B00FAKE002", "in_stock": False}]}
ITEMS_RECEIPT = {"accepted": 2, "sequence": 4711, "not_embedded": []}
BUNDLE_SHARE = {"version": "20250923-0c2d4e", "share": 0.05}
BUNDLES = {
    "serving": "20250922-1f3a9c",
    "previous": "20250921-77ab01",
    "canary": {"version": "20250923-0c2d4e", "share": 0.05},
    "shadow": None,
    "available": ["20250921-77ab01", "20250922-1f3a9c", "20250923-0c2d4e"],
    "state": "ok",
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

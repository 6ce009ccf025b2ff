"""A bundle of each format version, written once and never again, still opens and still gives the answers it gave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.bundle.manifest import FORMAT_VERSION
from service.bundle.reader import open_bundle
from service.bundle.store import active_version
from service.domain import Query
from service.settings import Settings
from service.wiring import open_service

GOLDEN = Path(__file__).parents[2] / "golden"
ROOTS = sorted(GOLDEN.glob("v*"))


def test_every_format_version_has_a_golden_bundle() -> None:
    assert [root.name for root in ROOTS] == [f"v{n}" for n in range(1, FORMAT_VERSION + 1)]


@pytest.mark.parametrize("root", ROOTS, ids=lambda root: root.name)
async def test_it_opens_and_answers_as_it_did(root: Path, tmp_path: Path) -> None:
    bundle = open_bundle(root / active_version(root))
    assert f"v{bundle.manifest.format_version}" == root.name
    assert bundle.manifest.evaluation.users > 0
    answers = json.loads((root / "answers.json").read_text())
    assert {answer["strategy"] for answer in answers.values()} == {"personal", "popular"}
    async with open_service(Settings(bundles=root, events_dir=tmp_path)) as service:
        for user_id, recorded in answers.items():
            query = Query(user_id=user_id, k=5, request_id="golden")
            answer = await service.recommender.recommend(query, transport="rest")
            assert answer.strategy == recorded["strategy"]
            assert [item.item_id for item in answer.items] == [item_id for item_id, _ in recorded["items"]]
            assert [item.score for item in answer.items] == pytest.approx(
                [score for _, score in recorded["items"]], abs=2e-3
            )

"""A bundle of each format version, written once and never again, still opens and still gives the answers it gave."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from service.bundle.manifest import FORMAT_VERSION
from service.bundle.reader import open_bundle
from service.bundle.store import active_version
from service.domain import Query
from service.encoders import ContentEncoders
from service.errors import EncoderUnavailableError
from service.new_items import NewItems
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
    settings = Settings(bundles=root, events_dir=tmp_path / "events", state_dir=tmp_path / "state")
    async with open_service(settings) as service:
        for user_id, recorded in answers.items():
            query = Query(user_id=user_id, k=5, request_id="golden")
            answer = await service.engines.get().recommend(query, transport="rest")
            assert answer.strategy == recorded["strategy"]
            assert [item.item_id for item in answer.items] == [item_id for item_id, _ in recorded["items"]]
            assert [item.score for item in answer.items] == pytest.approx(
                [score for _, score in recorded["items"]], abs=2e-3
            )


def test_format_1_holds_nothing_of_what_came_later() -> None:
    bundle = open_bundle(GOLDEN / "v1" / active_version(GOLDEN / "v1"))
    assert (bundle.content, dict(bundle.attributes), ContentEncoders.open(bundle).available) == (None, {}, frozenset())
    with pytest.raises(EncoderUnavailableError):
        NewItems(bundle)


@pytest.mark.parametrize("root", ROOTS[1:], ids=lambda root: root.name)
def test_it_encodes_and_places_what_is_new_as_it_did(root: Path) -> None:
    bundle = open_bundle(root / active_version(root))
    assert bundle.attributes["colour"].value(0) is None
    assert [bundle.attributes["size"].value(row) for row in range(4)] == ["S", "M", "L", "S"]
    encoders, new_items = ContentEncoders.open(bundle), NewItems(bundle)
    assert encoders.available == {"text", "image"}
    for recorded in json.loads((root / "contents.json").read_text()):
        item = new_items.embed(encoders.content(recorded["text"], None))
        np.testing.assert_allclose(item.content.fused[:8], recorded["fused"], atol=1e-4)
        np.testing.assert_allclose(item.item_vector[:8], recorded["item_vector"], atol=2e-3)
        assert [bundle.item_ids[row] for row in item.neighbor_rows[:5]] == recorded["neighbors"]

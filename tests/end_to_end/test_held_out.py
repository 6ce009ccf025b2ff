"""The right answer is known: through the real ports, what a planted shopper would buy next is among the first ten."""

import shutil

import faiss
import httpx
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from service.bundle.manifest import Manifest
from service.bundle.reader import INDEX, read_manifest
from service.bundle.store import activate
from service.bundle.writer import new_bundle
from service.client import RecommendationClient

pytestmark = pytest.mark.timeout(900)

K = 10
DESCRIBED_ELSEWHERE = {"format_version", "version", "created_at", "files"}


def share_found(served, held_out: dict[str, str]) -> tuple[float, float]:
    """Share of the shoppers whose held-out item is in the top 10, over REST and over gRPC."""
    by_rest = by_grpc = 0
    with httpx.Client(base_url=served.rest, timeout=10) as rest, RecommendationClient(served.grpc, timeout_s=10) as rpc:
        for user_id, item_id in held_out.items():
            answer = rest.get("/recommend", params={"user_id": user_id, "k": K}).raise_for_status().json()
            assert (answer["strategy"], answer["degraded"], len(answer["items"])) == ("personal", [], K)
            by_rest += item_id in {item["item_id"] for item in answer["items"]}
            by_grpc += item_id in {item.item_id for item in rpc.recommend(user_id, K).items}
    print(f"held-out item in the top {K}: {by_rest} of {len(held_out)} over REST, {by_grpc} over gRPC")
    return by_rest / len(held_out), by_grpc / len(held_out)


def test_the_held_out_item_is_in_the_top_ten_of_four_shoppers_in_five(built, serve):
    assert len(built.held_out) > 200
    with serve(built.bundles) as served:
        assert served.version == built.version
        by_rest, by_grpc = share_found(served, built.held_out)
        assert by_rest == by_grpc >= 0.8
        unknown = httpx.get(f"{served.rest}/recommend", params={"user_id": "nobody", "k": K}).json()
        assert unknown["strategy"] == "popular"


def test_with_shuffled_weights_it_is_not(built, serve, tmp_path):
    publish_shuffled(built, tmp_path / "bundles")
    with serve(tmp_path / "bundles") as served:
        by_rest, by_grpc = share_found(served, built.held_out)
    assert by_rest == by_grpc < 0.2


def publish_shuffled(built, root) -> Manifest:
    """The same bundle with everything that was learned out of order: tables, graphs and the models' weights."""
    random = np.random.default_rng(0)
    source, manifest = built.bundle, read_manifest(built.bundle)
    with new_bundle(root) as draft:
        for name in manifest.files:
            shutil.copyfile(source / name, draft.directory / name)
        order = random.permutation(manifest.num_items)
        vectors = np.load(source / "item_vectors.npy")[order]
        draft.array("item_vectors", vectors)
        draft.array("history_vectors", np.load(source / "history_vectors.npy")[random.permutation(len(vectors))])
        for name in manifest.relations:
            order = random.permutation(manifest.num_items)
            for part in ("neighbors", "weights"):
                draft.array(f"graph.{name}.{part}", np.load(source / f"graph.{name}.{part}.npy")[order])
        index = faiss.index_factory(manifest.dim, "Flat", faiss.METRIC_INNER_PRODUCT)
        index.add(vectors)
        faiss.write_index(index, str(draft.directory / INDEX))
        for name in manifest.models:
            shuffle_weights(draft.directory / f"{name}.onnx", random)
        described = {field: getattr(manifest, field) for field in Manifest.model_fields.keys() - DESCRIBED_ELSEWHERE}
        described["index"] = manifest.index.model_copy(update={"factory": "Flat", "ef_search": None})
        shuffled = draft.publish(**described)
    activate(root, shuffled.version)
    return shuffled


def shuffle_weights(path, random) -> None:
    """Put the numbers of every floating-point weight in random order."""
    model = onnx.load(str(path))
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.size > 1:
            mixed = random.permutation(values.ravel()).reshape(values.shape)
            weight.CopyFrom(numpy_helper.from_array(mixed, weight.name))
    onnx.save(model, str(path))

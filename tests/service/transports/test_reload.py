"""Bundles that change under real traffic on both ports: no failed request, no answer of two bundles."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import httpx
import pytest

from protos import recommender_pb2 as pb
from protos.recommender_pb2_grpc import RecommendationServiceStub
from service.bundle.store import activate, active_version, versions

KEY = "the-key-of-this-service"


@pytest.fixture
def root(planted, world, tmp_path) -> Path:
    """Two bundles with no item and no title in common; the second is active."""
    for name in ("b", "a"):
        items = [f"{name}-{item_id}" for item_id in world.item_ids]
        planted.publish(replace(world, item_ids=items, titles=[f"{name} {title}" for title in world.titles]), tmp_path)
    return tmp_path


@pytest.fixture
def a(root) -> str:
    return active_version(root)


@pytest.fixture
def b(root, a) -> str:
    return next(version for version in versions(root) if version != a)


@pytest.fixture
def shop(serve, root, tmp_path, command, monkeypatch) -> Iterator:
    """The real process; it looks at the folder ten times a second."""
    monkeypatch.setitem(command[1], "PLOTPOINTE_ADMIN_KEY", KEY)
    folders = ("--events-dir", str(tmp_path / "events"), "--state-dir", str(tmp_path / "state"))
    with serve("--bundles", str(root), "--reload-seconds", "0.1", *folders) as served:
        yield served


@dataclass
class Traffic:
    """What clients saw."""

    answers: list[tuple[str, str, str]] = field(default_factory=list)
    """Shopper, version, first letters of ids and titles."""
    failures: list[str] = field(default_factory=list)

    def versions(self) -> set[str]:
        return {version for _, version, _ in self.answers}


@contextlib.contextmanager
def traffic(served, users) -> Iterator[Traffic]:
    """Clients of both ports that ask without a pause."""
    seen, over = Traffic(), threading.Event()

    def rest(client: httpx.Client, user_id: str, k: int) -> tuple[str, set[str]]:
        response = client.get("/recommend", params={"user_id": user_id, "k": k})
        assert response.status_code == 200, response.text
        body = response.json()
        return body["bundle_version"], {text[0] for item in body["items"] for text in (item["item_id"], item["title"])}

    def rpc(stub: RecommendationServiceStub, user_id: str, k: int) -> tuple[str, set[str]]:
        answer = stub.Recommend(pb.RecommendRequest(user_id=user_id, k=k), timeout=10)
        return answer.bundle_version, {text[0] for item in answer.items for text in (item.item_id, item.title)}

    def client(ask: Callable[..., tuple[str, set[str]]], connection: object) -> None:
        turn = 0
        while not over.is_set():
            turn += 1
            user_id = users[turn % len(users)]
            try:
                version, letters = ask(connection, user_id, 5 + turn % 7)
                seen.answers.append((user_id, version, "".join(sorted(letters))))
            except (AssertionError, httpx.HTTPError, grpc.RpcError) as error:
                seen.failures.append(str(error))

    with httpx.Client(base_url=served.rest) as http, grpc.insecure_channel(served.grpc) as channel:
        stub = RecommendationServiceStub(channel)
        clients = [threading.Thread(target=client, args=pair) for pair in ((rest, http), (rpc, stub), (rest, http))]
        for thread in clients:
            thread.start()
        try:
            yield seen
        finally:
            over.set()
            for thread in clients:
                thread.join(15)


def until(holds: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def administer(served, method: str, path: str, **options) -> httpx.Response:
    return httpx.request(method, served.rest + path, headers={"authorization": f"Bearer {KEY}"}, timeout=20, **options)


def test_a_new_bundle_takes_over_without_a_failed_or_mixed_answer(shop, root, a, b, world):
    letter = {a: "a", b: "b"}
    with traffic(shop, list(world.taste)) as seen:
        for version in (b, a, b):
            activate(root, version)
            until(lambda wanted=version: seen.answers and seen.answers[-1][1] == wanted)
            time.sleep(0.2)
        until(lambda: f"/{a}/" not in Path(f"/proc/{shop.process.pid}/maps").read_text())
    assert seen.failures == []
    assert seen.versions() == {a, b}
    assert len(seen.answers) > 100
    assert all(letters == letter[version] for _, version, letters in seen.answers)
    metrics = shop.get("/metrics").text
    assert 'plotpointe_bundle_loads_total{result="loaded",tenant="default"} 4.0' in metrics
    served = [line for line in metrics.splitlines() if line.startswith("plotpointe_model_info{")]
    assert sorted((a in line, line.rsplit(" ", 1)[1]) for line in served) == [(False, "1.0"), (True, "0.0")]
    assert shop.get("/readyz").json()["states"]["bundle"] == f"serving {b}"


def test_a_broken_bundle_changes_nothing_but_what_readiness_says(shop, root, a, b):
    victim = root / b / "titles.bytes.npy"
    victim.chmod(0o644)
    victim.write_bytes(victim.read_bytes()[:-1] + b"\x00")
    activate(root, b)
    until(lambda: f"refused {b}" in shop.get("/readyz").json()["states"]["reload"])
    ready = shop.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["states"]["bundle"] == f"serving {a}"
    assert shop.get("/recommend", params={"user_id": "x"}).json()["bundle_version"] == a
    assert 'plotpointe_bundle_loads_total{result="refused",tenant="default"} 1.0' in shop.get("/metrics").text


def test_a_canary_answers_its_share_and_a_rollback_takes_one_call(shop, a, b, world):
    users = [f"visitor-{n}" for n in range(300)]
    assert administer(shop, "PUT", "/v1/bundles:canary", json={"version": b, "share": 0.3}).status_code == 200
    with traffic(shop, users) as seen:
        until(lambda: len(seen.answers) > 1500)
        states = administer(shop, "POST", f"/v1/bundles/{b}:activate").json()
        assert (states["serving"], states["previous"], states["canary"]) == (b, a, None)
        count = len(seen.answers)
        until(lambda: len(seen.answers) > count + 300)
        before = list(seen.answers)
        assert administer(shop, "POST", "/v1/bundles:rollback").json()["serving"] == a
        until(lambda: seen.answers[-1][1] == a)
    assert seen.failures == []
    assert all(letters == ("a" if version == a else "b") for _, version, letters in seen.answers)
    canaried = {user for user, version, _ in before[:1400] if version == b}
    assert 0.2 < len(canaried) / len(users) < 0.4
    assert canaried.isdisjoint({user for user, version, _ in before[:1400] if version == a})
    assert {version for _, version, _ in before[-200:]} == {b}


def test_a_shadow_is_compared_and_seen_by_nobody(shop, a, b, world):
    assert administer(shop, "PUT", "/v1/bundles:shadow", json={"version": b, "share": 1}).status_code == 200
    with traffic(shop, world.user_ids[:20]) as seen:
        until(lambda: 'plotpointe_shadow_total{result="compared"}' in shop.get("/metrics").text)
    assert seen.failures == []
    assert seen.versions() == {a}
    metrics = shop.get("/metrics").text
    assert "plotpointe_shadow_overlap_ratio_sum 0.0" in metrics  # the two shops have no item in common
    assert "plotpointe_shadow_duration_seconds_count" in metrics

"""Several workers behind one pair of ports, as clients, scrapers and orchestrators meet them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import httpx
import pytest

from protos import recommender_pb2 as pb
from protos.recommender_pb2_grpc import RecommendationServiceStub
from service.bundle.store import activate, active_version, versions

KEY = "the-key-of-this-service"


@pytest.fixture(scope="module")
def workers(serve, bundle_root, tmp_path_factory):
    """The real service with two workers and no Redis; the state folder is theirs together."""
    tmp_path = tmp_path_factory.mktemp("workers")
    folders = ("--events-dir", str(tmp_path / "events"), "--state-dir", str(tmp_path / "state"))
    with serve("--bundles", str(bundle_root), "--workers", "2", *folders) as served:
        yield served


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ask_rest(served, count: int) -> None:
    """Each over a connection of its own, so that any worker may get it."""
    for n in range(count):
        assert served.get("/recommend", params={"user_id": f"shopper-{n:03d}"}).status_code == 200


def ask_rpc(served, count: int) -> None:
    for n in range(count):
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(served.grpc, options=options) as channel:
            RecommendationServiceStub(channel).Recommend(pb.RecommendRequest(user_id=f"shopper-{n:03d}"), timeout=10)


def counted(served) -> tuple[float, float]:
    """Requests for recommendations that all workers together have counted, over REST and over gRPC."""
    text = served.get("/metrics").text
    series = re.findall(r'^plotpointe_request_duration_seconds_count\{route="([^"]*)".*\} (\S+)$', text, re.MULTILINE)
    rest = sum(float(value) for route, value in series if route == "/recommend")
    return rest, sum(float(value) for route, value in series if route.endswith("/Recommend"))


def test_the_metrics_of_any_worker_are_those_of_all(workers):
    rest, rpc = counted(workers)
    ask_rest(workers, 40)
    ask_rpc(workers, 20)
    until(lambda: counted(workers) == (rest + 40, rpc + 20))
    assert {counted(workers) for _ in range(20)} == {(rest + 40, rpc + 20)}  # whoever is asked
    pids = children(workers.process.pid)
    assert len(pids) == 2
    # The one that asks; another worker's last scrape is forgotten a quarter of a second later.
    until(lambda: "\nplotpointe_inflight_requests 1.0\n" in workers.get("/metrics").text)
    os.kill(pids[0], signal.SIGKILL)
    until(lambda: len(children(workers.process.pid)) == 2 and pids[0] not in children(workers.process.pid))
    until(lambda: "plotpointe_worker_restarts_total 1.0" in workers.get("/metrics").text)
    ask_rest(workers, 10)
    until(lambda: counted(workers) == (rest + 50, rpc + 20))


def test_both_workers_answer(workers):
    ask_rpc(workers, 30)
    ask_rest(workers, 30)
    logs = {int(path.stem.rpartition("-")[2]) for path in Path(workers_events(workers)).glob("impressions-*.jsonl")}
    assert set(children(workers.process.pid)) <= logs


def workers_events(served) -> str:
    command = Path(f"/proc/{served.process.pid}/cmdline").read_text().split("\0")
    return command[command.index("--events-dir") + 1]


def test_a_second_service_is_refused_both_ports(workers, command):
    rest, rpc = str(urlsplit(workers.rest).port), workers.grpc.rpartition(":")[2]
    for flags in (
        ["--rest-port", rest, "--grpc-port", "0"],
        ["--rest-port", "0", "--grpc-port", rpc, "--workers", "2"],
    ):
        ran = subprocess.run([*command[0], *flags], env=command[1], capture_output=True, text=True, timeout=60)
        assert ran.returncode == 2
        assert " is taken by another process" in ran.stderr


def test_a_refused_bundle_ends_the_start_with_one_error(command, tmp_path):
    flags = ["--bundles", str(tmp_path), "--rest-port", "0", "--grpc-port", "0", "--workers", "2"]
    ran = subprocess.run([*command[0], *flags], env=command[1], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr
    errors = [line for line in ran.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "CURRENT" in errors[0]


def test_an_admin_call_to_one_worker_reaches_all(serve, planted, world, tmp_path, command, monkeypatch):
    monkeypatch.setitem(command[1], "PLOTPOINTE_ADMIN_KEY", KEY)
    root = tmp_path / "bundles"
    planted.publish(planted.make_world(seed=8), root)
    planted.publish(world, root)
    a = active_version(root)
    b = next(version for version in versions(root) if version != a)
    folders = ("--events-dir", str(tmp_path / "events"), "--state-dir", str(tmp_path / "state"))

    def serving(served) -> set[str]:
        return {served.get("/v1/model").json()["version"] for _ in range(12)}

    with serve("--bundles", str(root), "--workers", "2", "--reload-seconds", "0.1", *folders) as served:
        assert serving(served) == {a}
        headers = {"authorization": f"Bearer {KEY}"}
        assert httpx.post(f"{served.rest}/v1/bundles/{b}:activate", headers=headers, timeout=20).status_code == 200
        until(lambda: serving(served) == {b})
        assert httpx.post(f"{served.rest}/v1/bundles:rollback", headers=headers, timeout=20).status_code == 200
        until(lambda: serving(served) == {a})
        activate(root, b)
        until(lambda: serving(served) == {b})


def test_a_live_item_reaches_every_worker(workers):
    body = {"hidden": True}
    assert httpx.patch(f"{workers.rest}/v1/items/item-0000", json=body, timeout=10).status_code == 200
    gone = lambda: "item-0000" not in workers.get("/v1/popular", params={"k": 200}).text  # noqa: E731
    until(lambda: all(gone() for _ in range(12)))


def test_requests_in_flight_are_answered_when_all_are_told_to_end(serve, bundle_root, tmp_path):
    """Both the signal and the requests are there when the stopped workers go on."""
    folders = ("--events-dir", str(tmp_path / "events"), "--state-dir", str(tmp_path / "state"))
    with serve("--bundles", str(bundle_root), "--workers", "2", *folders) as served:
        address = urlsplit(served.rest)
        pids = children(served.process.pid)
        with httpx.Client(base_url=served.rest) as one, httpx.Client(base_url=served.rest) as two:
            assert one.get("/livez").status_code == two.get("/livez").status_code == 200
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            served.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            for client in (one, two):
                assert client.get("/recommend", params={"user_id": "a"}).status_code == 200
        assert served.process.wait(15) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        with pytest.raises(httpx.ConnectError):
            httpx.get(address.geturl() + "/livez")

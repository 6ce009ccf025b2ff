"""Load on a running service: a REST user and a gRPC user, with thresholds that decide the exit status.

    locust -f loadtests/locustfile.py --headless -u 20 -r 20 -t 30s --max-p99-ms 50
    locust -f loadtests/locustfile.py --headless -u 20 -t 30s GrpcUser

Who asks comes from the bundle that is served (`--bundles`) or from a file with one user id a line (`--user-ids`). Few
users ask often and many seldom (`--zipf`), as in a shop, so the cache is hit as it would be; `--zipf 0` asks evenly.
Every answer is checked: one that is empty without a reason, or another user's, is a failure.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import grpc.experimental.gevent
from locust import FastHttpUser, User, constant_throughput, events, task
from locust.env import Environment

from protos import recommender_pb2 as pb
from protos.recommender_pb2_grpc import RecommendationServiceStub
from service.bundle.files import load_ids
from service.bundle.store import active_version
from service.errors import DataError

grpc.experimental.gevent.init_gevent()
log = logging.getLogger(__name__)


@events.init_command_line_parser.add_listener
def add_flags(parser: Any) -> None:
    """PlotPointe's own flags, beside Locust's."""
    flags = parser.add_argument_group("PlotPointe")
    flags.add_argument("--grpc-target", default="127.0.0.1:50051", help="host:port of gRPC (REST is Locust's --host)")
    flags.add_argument("--bundles", default="var/bundles", help="bundle folder of the service: who asks")
    flags.add_argument("--user-ids", default="", help="instead: a file with one user id a line")
    flags.add_argument("--unknown-share", type=share, default=0.1, help="share of requests by users nobody knows")
    flags.add_argument("--zipf", type=float, default=0.8, help="how much more often the first users ask; 0: evenly")
    flags.add_argument("--k", type=int, default=20, help="items a request asks for")
    flags.add_argument("--user-rps", type=float, default=10.0, help="requests a second that one Locust user tries")
    flags.add_argument("--max-p99-ms", type=float, default=0.0, help="exit with 1 if the 99th percentile is above this")
    flags.add_argument("--min-rps", type=float, default=0.0, help="exit with 1 if fewer were answered in a second")
    flags.add_argument("--max-failure-ratio", type=share, default=0.0, help="exit with 1 if more requests failed")


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share from 0 to 1")
    return value


class Shoppers:
    """Who asks next."""

    def __init__(self, user_ids: list[str], unknown_share: float, zipf: float) -> None:
        self._user_ids = user_ids
        self._unknown_share = unknown_share
        self._weights = list(itertools.accumulate(1 / (rank + 1) ** zipf for rank in range(len(user_ids))))

    def draw(self) -> str:
        """A user id."""
        if random.random() < self._unknown_share:
            return f"unknown-{random.getrandbits(40):x}"
        return random.choices(self._user_ids, cum_weights=self._weights)[0]


@events.init.add_listener
def choose_shoppers(environment: Environment, **_: Any) -> None:
    """Read the user ids once for a process."""
    options = environment.parsed_options
    user_ids = _user_ids(options)
    random.Random(0).shuffle(user_ids)
    environment.shoppers = Shoppers(user_ids, options.unknown_share, options.zipf)
    log.info("%d users ask", len(user_ids))


def _user_ids(options: argparse.Namespace) -> list[str]:
    if options.user_ids:
        user_ids = Path(options.user_ids).read_text("utf-8").splitlines()
    else:
        root = Path(options.bundles)
        table = load_ids(root / active_version(root), "user_ids")
        user_ids = [table[row] for row in range(len(table))]
    if not user_ids:
        raise DataError("there are no user ids", where=options.user_ids or options.bundles, todo="Give --user-ids")
    return user_ids


def _pace(user: User) -> float:
    return float(constant_throughput(user.environment.parsed_options.user_rps)(user))


class RestUser(FastHttpUser):
    """A storefront that asks over REST."""

    host = "http://127.0.0.1:8000"
    wait_time = _pace

    @task
    def recommend(self) -> None:
        """One request, its answer checked."""
        user_id = self.environment.shoppers.draw()
        path = f"/recommend?user_id={quote(user_id, safe='')}&k={self.environment.parsed_options.k}"
        with self.client.get(path, name="/recommend", catch_response=True) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}: {(response.text or '')[:200]}")
                return
            answer = response.json()
            if fault := _fault(user_id, answer["user_id"], len(answer["items"]), answer["degraded"]):
                response.failure(fault)


class GrpcUser(User):
    """A storefront that asks over gRPC."""

    wait_time = _pace

    def on_start(self) -> None:
        """A connection of its own."""
        options = (("grpc.use_local_subchannel_pool", 1),)
        self.channel = grpc.insecure_channel(self.environment.parsed_options.grpc_target, options)
        self.stub = RecommendationServiceStub(self.channel)

    def on_stop(self) -> None:
        """Close the connection."""
        self.channel.close()

    @task
    def recommend(self) -> None:
        """One call, its answer checked."""
        user_id = self.environment.shoppers.draw()
        request = pb.RecommendRequest(user_id=user_id, k=self.environment.parsed_options.k)
        started = time.perf_counter()
        error: Exception | None = None
        size = 0
        try:
            answer = self.stub.Recommend(request, timeout=5)
            size = answer.ByteSize()
            if fault := _fault(user_id, answer.user_id, len(answer.items), answer.degraded):
                error = AssertionError(fault)
        except grpc.RpcError as failed:
            error = failed
        self.environment.events.request.fire(
            request_type="gRPC",
            name="Recommend",
            response_time=(time.perf_counter() - started) * 1000,
            response_length=size,
            exception=error,
            context={},
        )


def _fault(asked: str, answered: str, items: int, degraded: Sequence[str]) -> str:
    """What is wrong with an answer; a user who has bought everything rightly gets no items."""
    if asked != answered:
        return "the answer is another user's"
    return "" if items or "too_few_items" in degraded else "the answer has no items"


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    """Exit with 1, and say why, where a threshold was missed or nothing was asked."""
    options, total = environment.parsed_options, environment.stats.total
    p99_ms = total.get_response_time_percentile(0.99) or 0.0
    answered_rps = total.total_rps * (1 - total.fail_ratio)
    faults = [
        text
        for missed, text in (
            (total.num_requests == 0, "no request was made"),
            (total.fail_ratio > options.max_failure_ratio, f"{total.fail_ratio:.2%} of the requests failed"),
            (options.max_p99_ms and p99_ms > options.max_p99_ms, f"p99 was {p99_ms:.0f} ms, over {options.max_p99_ms}"),
            (answered_rps < options.min_rps, f"{answered_rps:.1f} requests/s were answered, under {options.min_rps}"),
        )
        if missed
    ]
    for fault in faults:
        log.error("threshold missed: %s", fault)
    environment.process_exit_code = 1 if faults else 0

"""How the client calls: what is tried again, how long it waits, and which error comes of which refusal."""

import asyncio
import time

import pytest

from protos import recommender_pb2 as pb
from service import errors
from service.client import RecommendationClient
from service.client_calls import KNOWN_REASONS
from service.domain import Recommendation, Strategy


class Engine:
    """Fails the first times, and keeps count."""

    def __init__(self, error: Exception, failures: int) -> None:
        self.error, self.failures, self.calls = error, failures, 0

    async def recommend(self, query, *, transport):
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return Recommendation("r", query.user_id, (), Strategy.POPULAR, "test", False, (), {})


def ask(served, **options):
    with RecommendationClient(served.grpc, **options) as client:
        began = time.monotonic()
        return client.recommend("u"), time.monotonic() - began


async def test_it_waits_as_long_as_the_service_asks(answering):
    engine = Engine(errors.OverloadedError("too many", retry_after_s=0.4), failures=1)
    async with answering(engine) as served:
        _, seconds = await asyncio.to_thread(ask, served, timeout_s=10)
    assert engine.calls == 2
    assert seconds >= 0.4


async def test_it_does_not_wait_beyond_its_time(answering):
    engine = Engine(errors.OverloadedError("too many", retry_after_s=30), failures=9)
    async with answering(engine) as served:
        began = time.monotonic()
        with pytest.raises(errors.OverloadedError, match="too many"):
            await asyncio.to_thread(ask, served, timeout_s=5)
    assert time.monotonic() - began < 4
    assert engine.calls == 1


@pytest.mark.parametrize("cls", KNOWN_REASONS.values(), ids=lambda cls: cls.__name__)
async def test_a_refusal_comes_back_by_its_name(answering, cls):
    error = cls("wrong", retry_after_s=99) if issubclass(cls, errors.UnavailableError) else cls("wrong")
    engine = Engine(error, failures=9)
    async with answering(engine) as served:
        with pytest.raises(cls, match="wrong") as caught:
            await asyncio.to_thread(ask, served, timeout_s=5)
    assert type(caught.value) is cls
    assert engine.calls == 1


def test_only_refusals_that_a_caller_may_hear_have_names():
    assert len(KNOWN_REASONS) == len({cls.reason for cls in KNOWN_REASONS.values()})
    assert "INTERNAL" not in KNOWN_REASONS


def test_every_method_of_the_contract_has_one_of_the_client(served, admin_key):
    event = pb.FeedbackEvent(event_id="of-the-client", user_id="a client's user", item_id="item-0001", kind="view")
    item = pb.ItemChange(item_id="of the client", title="coral")
    with RecommendationClient(served.grpc, timeout_s=20, tenant="default", admin_key=admin_key) as client:
        asked = [pb.RecommendRequest(user_id="shopper-001", k=3), pb.RecommendRequest(user_id="shopper-001", k=0)]
        good, bad = client.recommend_batch(asked).answers
        assert (len(good.recommendation.items), bad.error.reason) == (3, "INVALID_ARGUMENT")
        seeded = client.recommend(k=4, seed_items=["item-0001"], rules=pb.Rules(pin=["item-0100"]), explain=True)
        assert (seeded.strategy, seeded.items[0].item_id) == ("seed", "item-0100")
        assert len(client.rerank("shopper-001", ["item-0003", "item-0001"]).items) == 2
        assert len(client.similar_items("item-0001", 3, by="look").items) == 3
        assert len(client.similar_by_content(text="coral", k=3).items) == 3
        assert len(client.popular(3, category="kind 1").items) == 3
        assert client.write_events([event]).accepted == 1
        assert client.write_events([event]).duplicates == 1
        assert client.upsert_items([item]).accepted == 1
        assert client.patch_items([item]).accepted == 1
        assert client.delete_items(["of the client"]).accepted == 1
        assert client.get_model().version == client.bundles().serving == served.version
        for move in (
            lambda: client.activate_bundle("v0"),
            client.rollback_bundle,
            lambda: client.set_canary("v0", 0.5),
            lambda: client.set_shadow("v0", 0.5),
        ):
            with pytest.raises(errors.BundleMissingError):
                move()
    methods = {name for service in pb.DESCRIPTOR.services_by_name.values() for name in service.methods_by_name}
    assert len(methods) == 16


def test_another_tenant_and_another_key_are_refused(served):
    with RecommendationClient(served.grpc, timeout_s=20, tenant="another", admin_key="wrong") as client:
        with pytest.raises(errors.UnknownTenantError):
            client.recommend("u")
        with pytest.raises(errors.UnauthenticatedError):
            client.bundles()

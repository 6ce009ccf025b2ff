"""The routes that tell: feedback events and live items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from fastapi import FastAPI

from service.domain import ItemsReceipt
from service.rest import examples
from service.rest.answers import events_body, items_receipt_body
from service.rest.described import ASKED, ITEM_ID, TOO_LARGE, UNKNOWN, answer, body, extra
from service.rest.plain_route import MAX_PICTURE_BODY_BYTES, Asked, PlainRoute
from service.rest.request_schemas import EventsRequestBody, ItemBody, ItemsRequestBody
from service.rest.schemas import EventsReceiptBody, ItemsReceiptBody
from service.validation.changes import catalog_call, feedback_events, identifier, item_change
from service.validation.identity import accepted_tenant

if TYPE_CHECKING:
    from service.engine import Engine, Engines


class Statements:
    """The handlers, over the engines of all tenants."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines

    async def events(self, asked: Asked) -> bytes:
        """What shoppers did."""
        events = feedback_events(await asked.json())
        return orjson.dumps(events_body(await self._engine(asked).write_events(events, request_id=asked.request_id)))

    async def put_item(self, asked: Asked) -> bytes:
        """Add an item, or change it."""
        change = item_change(asked.in_path("item_id"), await asked.json(MAX_PICTURE_BODY_BYTES))
        return _received(await self._engine(asked).upsert_items((change,), request_id=asked.request_id))

    async def patch_item(self, asked: Asked) -> bytes:
        """Change a known item."""
        change = item_change(asked.in_path("item_id"), await asked.json(MAX_PICTURE_BODY_BYTES))
        return _received(await self._engine(asked).patch_items((change,), request_id=asked.request_id))

    async def delete_item(self, asked: Asked) -> bytes:
        """Take an item out of every answer."""
        asked.parameters({})
        item_id = identifier(asked.in_path("item_id"))
        return _received(await self._engine(asked).delete_items((item_id,), request_id=asked.request_id))

    async def items_batch(self, asked: Asked) -> bytes:
        """Up to a thousand items in one call."""
        call = catalog_call(await asked.json(MAX_PICTURE_BODY_BYTES))
        engine, request_id = self._engine(asked), asked.request_id
        if call.upsert:
            return _received(await engine.upsert_items(call.upsert, request_id=request_id))
        if call.patch:
            return _received(await engine.patch_items(call.patch, request_id=request_id))
        return _received(await engine.delete_items(call.delete, request_id=request_id))

    def _engine(self, asked: Asked) -> Engine:
        return self._engines.get(accepted_tenant(asked.exchange.tenant()))


def add_statements(app: FastAPI, engines: Engines) -> None:
    """Add the routes."""
    tell = Statements(engines)
    changed = answer(ItemsReceiptBody, "The change is kept; `sequence` says when it shows.", examples.ITEMS_RECEIPT)
    events = answer(EventsReceiptBody, "The events are kept.", examples.EVENTS_RECEIPT)
    item = extra(ITEM_ID, **body(ItemBody, examples.ITEM))
    told = {**ASKED, **TOO_LARGE}
    for method, path, handler, summary, responses, described in (
        (
            "POST",
            "/v1/events",
            tell.events,
            "What shoppers did; the next answer reflects it",
            {200: events, **told},
            extra(**body(EventsRequestBody, examples.EVENTS_REQUEST)),
        ),
        ("PUT", "/v1/items/{item_id}", tell.put_item, "Add an item, or change it", {200: changed, **told}, item),
        (
            "PATCH",
            "/v1/items/{item_id}",
            tell.patch_item,
            "Change a known item",
            {200: changed, **told, **UNKNOWN},
            item,
        ),
        (
            "DELETE",
            "/v1/items/{item_id}",
            tell.delete_item,
            "Take an item out of every answer",
            {200: changed, **ASKED},
            extra(ITEM_ID),
        ),
        (
            "POST",
            "/v1/items:batch",
            tell.items_batch,
            "Up to a thousand items in one call: upsert, patch or delete",
            {200: changed, **told, **UNKNOWN},
            extra(**body(ItemsRequestBody, examples.ITEMS_REQUEST)),
        ),
    ):
        about: dict[str, Any] = {"tags": ["events and items"], "summary": summary, "responses": responses}
        app.router.routes.append(PlainRoute(path, handler, methods=[method], openapi_extra=described, **about))


def _received(receipt: ItemsReceipt) -> bytes:
    return orjson.dumps(items_receipt_body(receipt))

"""The routes of those who run the service: which bundle serves. Each needs `authorization: Bearer <admin key>`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from fastapi import FastAPI

from service.rest import examples
from service.rest.answers import bundles_body
from service.rest.described import ASKED, UNAUTHENTICATED, answer, body, extra, problem
from service.rest.plain_route import Asked, PlainRoute
from service.rest.request_schemas import BundleShareBody
from service.rest.schemas import BundlesBody
from service.validation.changes import bundle_share, bundle_version
from service.validation.identity import AUTHORIZATION, accepted_tenant

if TYPE_CHECKING:
    from service.admin import Admin, BundleStates

KEY_HEADER = {
    "name": AUTHORIZATION,
    "in": "header",
    "required": True,
    "description": "`Bearer` and the admin key.",
    "schema": {"type": "string"},
}
_VERSION = {
    "name": "version",
    "in": "path",
    "required": True,
    "description": "The bundle's version.",
    "schema": {"type": "string", "minLength": 1},
}


class Bundles:
    """The handlers, over the admin of all tenants."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    async def activate(self, asked: Asked) -> bytes:
        """Serve a published bundle."""
        asked.parameters({})
        version = bundle_version(asked.in_path("version"))
        return _states(await self._admin.activate(_tenant(asked), version, asked.exchange.admin_key()))

    async def rollback(self, asked: Asked) -> bytes:
        """Serve the bundle before."""
        asked.parameters({})
        return _states(await self._admin.rollback(_tenant(asked), asked.exchange.admin_key()))

    async def states(self, asked: Asked) -> bytes:
        """What serves, and what could."""
        asked.parameters({})
        return _states(await self._admin.bundles(_tenant(asked), asked.exchange.admin_key()))

    async def canary(self, asked: Asked) -> bytes:
        """Try a bundle on some users."""
        part = bundle_share(await asked.json())
        key = asked.exchange.admin_key()
        return _states(await self._admin.set_canary(_tenant(asked), part.version, part.share, key))

    async def shadow(self, asked: Asked) -> bytes:
        """Compare a bundle on some requests."""
        part = bundle_share(await asked.json())
        key = asked.exchange.admin_key()
        return _states(await self._admin.set_shadow(_tenant(asked), part.version, part.share, key))


def add_bundles(app: FastAPI, admin: Admin) -> None:
    """Add the routes."""
    do = Bundles(admin)
    share = extra(KEY_HEADER, **body(BundleShareBody, examples.BUNDLE_SHARE))
    responses = {
        200: answer(BundlesBody, "The bundles as they are now.", examples.BUNDLES),
        **ASKED,
        **UNAUTHENTICATED,
        404: problem("There is no such bundle, or none to go back to.", examples.NO_BUNDLE),
        409: problem("The bundle was refused; the one before goes on serving.", examples.BUNDLE_REFUSED),
    }
    for method, path, handler, summary, described in (
        ("GET", "/v1/bundles", do.states, "Which bundle serves, and which could", extra(KEY_HEADER)),
        (
            "POST",
            "/v1/bundles/{version}:activate",
            do.activate,
            "Serve a published bundle, once it is verified and warm",
            extra(_VERSION, KEY_HEADER),
        ),
        ("POST", "/v1/bundles:rollback", do.rollback, "Serve the bundle before", extra(KEY_HEADER)),
        ("PUT", "/v1/bundles:canary", do.canary, "Let a bundle answer for a share of the users", share),
        ("PUT", "/v1/bundles:shadow", do.shadow, "Compare a bundle on a share of the requests", share),
    ):
        about: dict[str, Any] = {"tags": ["bundles"], "summary": summary, "responses": responses}
        app.router.routes.append(PlainRoute(path, handler, methods=[method], openapi_extra=described, **about))


def _tenant(asked: Asked) -> str:
    return accepted_tenant(asked.exchange.tenant())


def _states(states: BundleStates) -> bytes:
    return orjson.dumps(bundles_body(states))

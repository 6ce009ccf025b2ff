"""The methods of `plotpointe.v1.AdminService`. Each needs `authorization: Bearer <admin key>`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from google.protobuf.message import Message

from protos import recommender_pb2 as pb
from service.metrics import Metrics
from service.rpc.calls import Call, unary
from service.rpc.health import ADMIN_SERVICE_NAME
from service.rpc.messages import bundle_states
from service.rpc.plain import plain
from service.validation.changes import bundle_share, bundle_version
from service.validation.identity import accepted_tenant

if TYPE_CHECKING:
    from service.admin import Admin


class AdminServicer:
    """Each method takes a message apart, tells the admin, and answers with the bundles as they are then."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    async def activate(self, request: pb.ActivateBundleRequest, call: Call) -> pb.BundleStates:
        """Serve a published bundle."""
        version = bundle_version(request.version)
        return bundle_states(await self._admin.activate(_tenant(call), version, call.admin_key()))

    async def rollback(self, _: pb.RollbackBundleRequest, call: Call) -> pb.BundleStates:
        """Serve the bundle before."""
        return bundle_states(await self._admin.rollback(_tenant(call), call.admin_key()))

    async def states(self, _: pb.ListBundlesRequest, call: Call) -> pb.BundleStates:
        """What serves, and what could."""
        return bundle_states(await self._admin.bundles(_tenant(call), call.admin_key()))

    async def canary(self, request: pb.SetCanaryRequest, call: Call) -> pb.BundleStates:
        """Try a bundle on some users."""
        part = bundle_share(plain(request))
        return bundle_states(await self._admin.set_canary(_tenant(call), part.version, part.share, call.admin_key()))

    async def shadow(self, request: pb.SetShadowRequest, call: Call) -> pb.BundleStates:
        """Compare a bundle on some requests."""
        part = bundle_share(plain(request))
        return bundle_states(await self._admin.set_shadow(_tenant(call), part.version, part.share, call.admin_key()))

    def handlers(self, metrics: Metrics) -> grpc.GenericRpcHandler[bytes, Message]:
        """The service's methods as gRPC asks for them, each one timed."""

        def route(name: str) -> str:
            return f"/{ADMIN_SERVICE_NAME}/{name}"

        activate, rollback = pb.ActivateBundleRequest.FromString, pb.RollbackBundleRequest.FromString
        methods = {
            "ActivateBundle": unary(self.activate, activate, route("ActivateBundle"), metrics),
            "RollbackBundle": unary(self.rollback, rollback, route("RollbackBundle"), metrics),
            "ListBundles": unary(self.states, pb.ListBundlesRequest.FromString, route("ListBundles"), metrics),
            "SetCanary": unary(self.canary, pb.SetCanaryRequest.FromString, route("SetCanary"), metrics),
            "SetShadow": unary(self.shadow, pb.SetShadowRequest.FromString, route("SetShadow"), metrics),
        }
        return grpc.method_handlers_generic_handler(ADMIN_SERVICE_NAME, methods)


def _tenant(call: Call) -> str:
    return accepted_tenant(call.tenant())

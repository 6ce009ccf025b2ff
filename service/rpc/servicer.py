"""The methods of `plotpointe.v1.RecommendationService`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from google.protobuf.message import Message

from protos import recommender_pb2 as pb
from service.domain import Query
from service.metrics import Metrics
from service.rpc.calls import MAX_PICTURE_MESSAGE_BYTES, Call, unary
from service.rpc.health import SERVICE_NAME
from service.rpc.messages import (
    batch_response,
    events_receipt,
    get_model_response,
    item_list,
    items_receipt,
    recommend_response,
)
from service.rpc.plain import plain
from service.validation.changes import feedback_events, item_changes, removed_items
from service.validation.identity import accepted_tenant
from service.validation.queries import (
    batch_queries,
    popular_query,
    recommend_query,
    rerank_query,
    similar_content_query,
    similar_items_query,
)

if TYPE_CHECKING:
    from service.engine import Engine, Engines


class RecommendationServicer:
    """Each method takes a message apart, asks the engine, and puts the answer together."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines

    async def recommend(self, request: pb.RecommendRequest, call: Call) -> pb.RecommendResponse:
        """The best items for one user."""
        query = recommend_query(plain(request), call.request_id, call.deadline)
        answer = await self._engine(call).recommend(query, transport="grpc")
        call.strategy = answer.strategy
        return recommend_response(answer)

    async def batch_recommend(self, request: pb.BatchRecommendRequest, call: Call) -> pb.BatchRecommendResponse:
        """Several requests in one call."""
        queries = batch_queries(plain(request), call.request_id, call.deadline)
        asked = [query for query in queries if isinstance(query, Query)]
        answers = iter(await self._engine(call).recommend_batch(asked, transport="grpc"))
        return batch_response([next(answers) if isinstance(query, Query) else query for query in queries])

    async def rerank(self, request: pb.RerankRequest, call: Call) -> pb.RecommendResponse:
        """The caller's own list."""
        query = rerank_query(plain(request), call.request_id, call.deadline)
        answer = await self._engine(call).rerank(query, transport="grpc")
        call.strategy = answer.strategy
        return recommend_response(answer)

    async def similar_items(self, request: pb.SimilarItemsRequest, call: Call) -> pb.ItemList:
        """What is like an item."""
        query = similar_items_query(plain(request), call.request_id)
        return item_list(await self._engine(call).similar(query, transport="grpc"))

    async def similar_by_content(self, request: pb.SimilarByContentRequest, call: Call) -> pb.ItemList:
        """What is like a text or a picture."""
        query = similar_content_query(plain(request), call.request_id)
        return item_list(await self._engine(call).similar(query, transport="grpc"))

    async def popular(self, request: pb.PopularRequest, call: Call) -> pb.ItemList:
        """The most popular items."""
        query = popular_query(plain(request), call.request_id)
        return item_list(await self._engine(call).popular(query, transport="grpc"))

    async def write_events(self, request: pb.WriteEventsRequest, call: Call) -> pb.EventsReceipt:
        """What shoppers did."""
        events = feedback_events(plain(request))
        return events_receipt(await self._engine(call).write_events(events, request_id=call.request_id))

    async def upsert_items(self, request: pb.UpsertItemsRequest, call: Call) -> pb.ItemsReceipt:
        """Add items, or change them."""
        changes = item_changes(plain(request))
        return items_receipt(await self._engine(call).upsert_items(changes, request_id=call.request_id))

    async def patch_items(self, request: pb.PatchItemsRequest, call: Call) -> pb.ItemsReceipt:
        """Change known items."""
        changes = item_changes(plain(request))
        return items_receipt(await self._engine(call).patch_items(changes, request_id=call.request_id))

    async def delete_items(self, request: pb.DeleteItemsRequest, call: Call) -> pb.ItemsReceipt:
        """Take items out of every answer."""
        item_ids = removed_items(plain(request))
        return items_receipt(await self._engine(call).delete_items(item_ids, request_id=call.request_id))

    async def get_model(self, _: pb.GetModelRequest, call: Call) -> pb.GetModelResponse:
        """What is being served."""
        return get_model_response(self._engine(call).model())

    def handlers(self, metrics: Metrics) -> grpc.GenericRpcHandler[bytes, Message]:
        """The service's methods as gRPC asks for them, each one timed."""
        pictured = MAX_PICTURE_MESSAGE_BYTES

        def route(name: str) -> str:
            return f"/{SERVICE_NAME}/{name}"

        batch, content = pb.BatchRecommendRequest.FromString, pb.SimilarByContentRequest.FromString
        upserts, patches = pb.UpsertItemsRequest.FromString, pb.PatchItemsRequest.FromString
        methods = {
            "Recommend": unary(self.recommend, pb.RecommendRequest.FromString, route("Recommend"), metrics),
            "BatchRecommend": unary(self.batch_recommend, batch, route("BatchRecommend"), metrics),
            "Rerank": unary(self.rerank, pb.RerankRequest.FromString, route("Rerank"), metrics),
            "SimilarItems": unary(
                self.similar_items, pb.SimilarItemsRequest.FromString, route("SimilarItems"), metrics
            ),
            "SimilarByContent": unary(self.similar_by_content, content, route("SimilarByContent"), metrics, pictured),
            "Popular": unary(self.popular, pb.PopularRequest.FromString, route("Popular"), metrics),
            "WriteEvents": unary(self.write_events, pb.WriteEventsRequest.FromString, route("WriteEvents"), metrics),
            "UpsertItems": unary(self.upsert_items, upserts, route("UpsertItems"), metrics, pictured),
            "PatchItems": unary(self.patch_items, patches, route("PatchItems"), metrics, pictured),
            "DeleteItems": unary(self.delete_items, pb.DeleteItemsRequest.FromString, route("DeleteItems"), metrics),
            "GetModel": unary(self.get_model, pb.GetModelRequest.FromString, route("GetModel"), metrics),
        }
        return grpc.method_handlers_generic_handler(SERVICE_NAME, methods)

    def _engine(self, call: Call) -> Engine:
        return self._engines.get(accepted_tenant(call.tenant()))

"""The methods of `plotpointe.v1.RecommendationService`."""

from __future__ import annotations

import grpc
from google.protobuf.message import Message

from protos import recommender_pb2 as pb
from service.metrics import Metrics
from service.model_info import ModelInfo
from service.recommend import Recommender
from service.rpc.calls import Call, unary
from service.rpc.health import SERVICE_NAME
from service.rpc.messages import get_model_response, recommend_response
from service.validation import validated_query


class RecommendationServicer:
    """Each method takes a message apart, asks the engine, and puts the answer together."""

    def __init__(self, recommender: Recommender, model: ModelInfo) -> None:
        self._recommender = recommender
        self._model = get_model_response(model)

    async def recommend(self, request: pb.RecommendRequest, call: Call) -> pb.RecommendResponse:
        """The best items for one user."""
        query = validated_query(request.user_id, request.k if request.HasField("k") else None, call.request_id)
        answer = await self._recommender.recommend(query, transport="grpc")
        call.strategy = answer.strategy
        return recommend_response(answer)

    async def get_model(self, _: pb.GetModelRequest, __: Call) -> pb.GetModelResponse:
        """What is being served."""
        return self._model

    def handlers(self, metrics: Metrics) -> grpc.GenericRpcHandler[bytes, Message]:
        """The service's methods as gRPC asks for them, each one timed."""
        methods = {
            "Recommend": unary(self.recommend, pb.RecommendRequest.FromString, f"/{SERVICE_NAME}/Recommend", metrics),
            "GetModel": unary(self.get_model, pb.GetModelRequest.FromString, f"/{SERVICE_NAME}/GetModel", metrics),
        }
        return grpc.method_handlers_generic_handler(SERVICE_NAME, methods)

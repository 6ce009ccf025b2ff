"""A typed gRPC client with a deadline and bounded retries. Needs grpcio and googleapis-common-protos, no server part.

    with RecommendationClient("127.0.0.1:50051") as client:
        for item in client.recommend("user-0001", k=5).items:
            print(item.rank, item.item_id, item.title)

One client serves all threads of a process. Answers are the contract's own messages, so that a newer server's
strategies and degradations reach an older client as they are; requests are too, where they are more than a few words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType

import grpc

from protos import recommender_pb2 as pb
from protos.recommender_pb2_grpc import AdminServiceStub, RecommendationServiceStub
from service.client_calls import Caller

OPTIONS = (
    ("grpc.enable_retries", 0),  # retries are counted here, in one place
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_metadata_size", 16 << 10),
    ("grpc.max_receive_message_length", 4 << 20),
)


class RecommendationClient:
    """Asks one PlotPointe service. Close it, or use it as a context manager.

    Each method raises InvalidQueryError where the request breaks the contract, UnavailableError or one of its kinds
    where there was no answer in time, the error that the service names where it refused, and PlotPointeError where it
    failed. `request_id` finds the call in the service's log.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = 1.0,
        attempts: int = 3,
        credentials: grpc.ChannelCredentials | None = None,
        tenant: str = "",
        admin_key: str = "",
    ) -> None:
        """`timeout_s` bounds a call with all its attempts; only what the service could not take is tried again.

        `tenant` names the shop where the service has several; `admin_key` is needed for the bundles' methods alone.
        """
        if timeout_s <= 0 or attempts < 1:
            raise ValueError(f"timeout_s must be above 0 and attempts at least 1, not {timeout_s} and {attempts}")
        metadata = (("x-plotpointe-tenant", tenant),) if tenant else ()
        key = (("authorization", f"Bearer {admin_key}"),) if admin_key else ()
        self._caller = Caller(target, timeout_s, attempts, metadata)
        self._operator = Caller(target, timeout_s, attempts, (*metadata, *key))
        self._channel = (
            grpc.insecure_channel(target, OPTIONS)
            if credentials is None
            else grpc.secure_channel(target, credentials, OPTIONS)
        )
        self._stub = RecommendationServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._admin = AdminServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def recommend(
        self,
        user_id: str = "",
        k: int | None = None,
        *,
        offset: int | None = None,
        history: Iterable[pb.PastEvent] = (),
        seed_items: Iterable[str] = (),
        category: str = "",
        filter: str = "",
        strict_filtering: bool | None = None,
        exclude_seen: bool | None = None,
        rules: pb.Rules | None = None,
        modality_weights: pb.ModalityWeights | None = None,
        diversity: float | None = None,
        explain: bool = False,
        metadata: bool = False,
        bundle_version: str = "",
        request_id: str = "",
    ) -> pb.RecommendResponse:
        """The best items for one user, best first; what is not given is as the service has it."""
        fields = {
            "user_id": user_id,
            "k": k,
            "offset": offset,
            "history": history,
            "seed_items": seed_items,
            "category": category,
            "filter": filter,
            "strict_filtering": strict_filtering,
            "exclude_seen": exclude_seen,
            "rules": rules,
            "modality_weights": modality_weights,
            "diversity": diversity,
            "explain": explain,
            "metadata": metadata,
            "bundle_version": bundle_version,
        }
        return self._caller.call(self._stub.Recommend, pb.RecommendRequest, pb.RecommendResponse, fields, request_id)

    def recommend_batch(
        self, requests: Sequence[pb.RecommendRequest], *, request_id: str = ""
    ) -> pb.BatchRecommendResponse:
        """Several requests in one call; each outcome is a recommendation or an error, in order."""
        fields = {"requests": requests}
        return self._caller.call(
            self._stub.BatchRecommend, pb.BatchRecommendRequest, pb.BatchRecommendResponse, fields, request_id
        )

    def rerank(
        self,
        user_id: str,
        item_ids: Sequence[str],
        *,
        history: Iterable[pb.PastEvent] = (),
        seed_items: Iterable[str] = (),
        explain: bool = False,
        metadata: bool = False,
        request_id: str = "",
    ) -> pb.RecommendResponse:
        """A list of your own, in the user's order."""
        fields = {
            "user_id": user_id,
            "item_ids": item_ids,
            "history": history,
            "seed_items": seed_items,
            "explain": explain,
            "metadata": metadata,
        }
        return self._caller.call(self._stub.Rerank, pb.RerankRequest, pb.RecommendResponse, fields, request_id)

    def similar_items(
        self,
        item_id: str,
        k: int | None = None,
        *,
        by: str = "",
        modality_weights: pb.ModalityWeights | None = None,
        filter: str = "",
        metadata: bool = False,
        request_id: str = "",
    ) -> pb.ItemList:
        """What is like an item: by `look`, `meaning`, `behaviour`, or as a `blend`."""
        fields = {
            "item_id": item_id,
            "k": k,
            "by": by,
            "modality_weights": modality_weights,
            "filter": filter,
            "metadata": metadata,
        }
        return self._caller.call(self._stub.SimilarItems, pb.SimilarItemsRequest, pb.ItemList, fields, request_id)

    def similar_by_content(
        self,
        *,
        text: str = "",
        image: bytes = b"",
        k: int | None = None,
        modality_weights: pb.ModalityWeights | None = None,
        filter: str = "",
        metadata: bool = False,
        request_id: str = "",
    ) -> pb.ItemList:
        """What is like a text, a picture, or both."""
        fields = {
            "text": text,
            "image": image,
            "k": k,
            "modality_weights": modality_weights,
            "filter": filter,
            "metadata": metadata,
        }
        return self._caller.call(
            self._stub.SimilarByContent, pb.SimilarByContentRequest, pb.ItemList, fields, request_id
        )

    def popular(
        self,
        k: int | None = None,
        *,
        category: str = "",
        window_s: float | None = None,
        filter: str = "",
        metadata: bool = False,
        request_id: str = "",
    ) -> pb.ItemList:
        """The most popular items, of a category or of all, lately or since ever."""
        fields = {"k": k, "category": category, "window_s": window_s, "filter": filter, "metadata": metadata}
        return self._caller.call(self._stub.Popular, pb.PopularRequest, pb.ItemList, fields, request_id)

    def write_events(self, events: Iterable[pb.FeedbackEvent], *, request_id: str = "") -> pb.EventsReceipt:
        """What shoppers did; an event that is sent twice counts once, so that a call may be repeated."""
        fields = {"events": events}
        return self._caller.call(self._stub.WriteEvents, pb.WriteEventsRequest, pb.EventsReceipt, fields, request_id)

    def upsert_items(self, items: Iterable[pb.ItemChange], *, request_id: str = "") -> pb.ItemsReceipt:
        """Add items, or change them; fields that are not given stay as they are."""
        return self._caller.call(
            self._stub.UpsertItems, pb.UpsertItemsRequest, pb.ItemsReceipt, {"items": items}, request_id
        )

    def patch_items(self, items: Iterable[pb.ItemChange], *, request_id: str = "") -> pb.ItemsReceipt:
        """Change known items; UnknownItemError, and none is changed, where one is not known."""
        return self._caller.call(
            self._stub.PatchItems, pb.PatchItemsRequest, pb.ItemsReceipt, {"items": items}, request_id
        )

    def delete_items(self, item_ids: Iterable[str], *, request_id: str = "") -> pb.ItemsReceipt:
        """Take items out of every answer."""
        fields = {"item_ids": item_ids}
        return self._caller.call(self._stub.DeleteItems, pb.DeleteItemsRequest, pb.ItemsReceipt, fields, request_id)

    def get_model(self, *, request_id: str = "") -> pb.GetModelResponse:
        """What is being served."""
        return self._caller.call(self._stub.GetModel, pb.GetModelRequest, pb.GetModelResponse, {}, request_id)

    def bundles(self, *, request_id: str = "") -> pb.BundleStates:
        """Which bundle serves, and which could."""
        return self._operator.call(self._admin.ListBundles, pb.ListBundlesRequest, pb.BundleStates, {}, request_id)

    def activate_bundle(self, version: str, *, request_id: str = "") -> pb.BundleStates:
        """Serve a published bundle. It is verified and warmed first: give the client seconds."""
        fields = {"version": version}
        return self._operator.call(
            self._admin.ActivateBundle, pb.ActivateBundleRequest, pb.BundleStates, fields, request_id
        )

    def rollback_bundle(self, *, request_id: str = "") -> pb.BundleStates:
        """Serve the bundle before."""
        return self._operator.call(
            self._admin.RollbackBundle, pb.RollbackBundleRequest, pb.BundleStates, {}, request_id
        )

    def set_canary(self, version: str, share: float, *, request_id: str = "") -> pb.BundleStates:
        """Let a bundle answer for a share of the users; 0 ends it."""
        fields = {"version": version, "share": share}
        return self._operator.call(self._admin.SetCanary, pb.SetCanaryRequest, pb.BundleStates, fields, request_id)

    def set_shadow(self, version: str, share: float, *, request_id: str = "") -> pb.BundleStates:
        """Compare a bundle on a share of the requests; 0 ends it."""
        fields = {"version": version, "share": share}
        return self._operator.call(self._admin.SetShadow, pb.SetShadowRequest, pb.BundleStates, fields, request_id)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> RecommendationClient:
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

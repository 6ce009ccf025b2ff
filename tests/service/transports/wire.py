"""The same request over both transports, and its two outcomes in one form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import httpx
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status
from hypothesis import strategies as st

from protos import recommender_pb2 as pb
from protos.recommender_pb2_grpc import AdminServiceStub, RecommendationServiceStub

SERVICES = {
    "RecommendationService": RecommendationServiceStub,
    "AdminService": AdminServiceStub,
}
OWN = ("recommendation_id", "timing_ms", "cached", "sequence")
"""What differs between two answers to the same question."""


def values_of(field: FieldDescriptor, depth: int) -> st.SearchStrategy:
    if field.message_type is not None:
        return messages(field.message_type, depth + 1)
    return {
        FieldDescriptor.CPPTYPE_STRING: st.text(max_size=12)
        if field.type == field.TYPE_STRING
        else st.binary(max_size=99),
        FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
        FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
        FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1) | st.integers(-2, 300),
        FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    }[field.cpp_type]


def messages(descriptor: Descriptor, depth: int = 0) -> st.SearchStrategy:
    """Any message of a type, some fields left out; names of what exists among them."""
    fields = {}
    for field in descriptor.fields if depth < 3 else ():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            fields[field.name] = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)
        elif field.is_repeated:
            fields[field.name] = st.lists(values_of(field, depth), max_size=3)
        elif field.name in ("item_id", "user_id"):
            fields[field.name] = st.sampled_from(["item-0001", "shopper-003"]) | st.text(max_size=12)
        else:
            fields[field.name] = values_of(field, depth)
    return st.fixed_dictionaries({}, optional=fields).map(lambda given: getattr(pb, descriptor.name)(**given))


def request(name: str, body: dict[str, Any] | Message | None) -> Message:
    """The request message of a method, from the words of its JSON form."""
    for service in pb.DESCRIPTOR.services_by_name.values():
        if name in service.methods_by_name:
            kind = getattr(pb, service.methods_by_name[name].input_type.name)
            return body if isinstance(body, Message) else ParseDict(body or {}, kind())
    raise AssertionError(f"there is no method {name}")


def in_words(message: Message) -> Any:
    """A message as the JSON body that says the same."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def normal(value: Any, without: tuple[str, ...] = ()) -> Any:
    """Without what only one of the two writes: null for what is absent, text for a 64-bit number, an HTTP status."""
    if isinstance(value, dict):
        kept = {
            name: normal(each, without)
            for name, each in value.items()
            if each is not None and name not in ("status", *without)
        }
        return kept | {name: int(kept[name]) for name in ("sequence", "as_of") if name in kept}
    return [normal(each, without) for each in value] if isinstance(value, list | tuple) else value


def of_rest(response: httpx.Response) -> Any:
    """The answer, or what was refused and why."""
    body = response.json()
    if response.status_code == 200:
        return normal(body, OWN)
    faults = sorted((fault["field"], fault["message"]) for fault in body["errors"])
    return {"reason": body["reason"], "detail": body["detail"] if not faults else "", "faults": faults}


def of_error(error: grpc.RpcError) -> Any:
    """What was refused and why."""
    info, bad = ErrorInfo(), BadRequest()
    for part in rpc_status.from_call(error).details:
        part.Unpack(info)
        part.Unpack(bad)
    faults = sorted((fault.field, fault.description) for fault in bad.field_violations)
    return {"reason": info.reason, "detail": error.details() if not faults else "", "faults": faults}


@dataclass(frozen=True)
class Both:
    """A connection of each kind to one service."""

    http: httpx.Client
    channel: grpc.Channel

    def rest(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The outcome over REST."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return of_rest(self.http.request(method, path, json=body, headers=named))

    def rpc(self, name: str, body: dict[str, Any] | Message | None = None, **metadata: str) -> Any:
        """The outcome over gRPC."""
        message = request(name, body)
        service = next(s.name for s in pb.DESCRIPTOR.services_by_name.values() if name in s.methods_by_name)
        stub = SERVICES[service](self.channel)
        named = tuple((key.replace("_", "-"), value) for key, value in metadata.items())
        try:
            return normal(in_words(getattr(stub, name)(message, metadata=named, timeout=30)), OWN)
        except grpc.RpcError as error:
            return of_error(error)

    def ask(self, rest: tuple[Any, ...], rpc: tuple[Any, ...], **headers: str) -> Any:
        """The outcome, which is the same over both."""
        over_rest, over_rpc = self.rest(*rest, **headers), self.rpc(*rpc, **headers)
        assert over_rest == over_rpc
        return over_rest

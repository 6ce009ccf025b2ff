"""The description of REST is true: its examples fit its schemas, and its schemas fit what is really read."""

import re

import jsonschema
import pytest

from protos import recommender_pb2 as pb
from service.rest import examples
from service.rest import request_schemas as bodies
from service.rest.questions import POPULAR_KINDS, RECOMMEND_KINDS, SIMILAR_KINDS, WEIGHT_KINDS
from service.validation import changes, queries
from service.validation.violations import InvalidFieldsError

PATHS = {
    "/recommend",
    "/v1/recommend",
    "/v1/recommend:batch",
    "/v1/rerank",
    "/v1/items/{item_id}/similar",
    "/v1/similar",
    "/v1/popular",
    "/v1/events",
    "/v1/items/{item_id}",
    "/v1/items:batch",
    "/v1/model",
    "/v1/bundles",
    "/v1/bundles/{version}:activate",
    "/v1/bundles:rollback",
    "/v1/bundles:canary",
    "/v1/bundles:shadow",
    "/livez",
    "/readyz",
    "/metrics",
}
READERS = {
    bodies.RecommendRequestBody: (lambda body: queries.recommend_query(body, "r"), examples.RECOMMEND_REQUEST),
    bodies.BatchRequestBody: (lambda body: queries.batch_queries(body, "r"), examples.BATCH_REQUEST),
    bodies.RerankRequestBody: (lambda body: queries.rerank_query(body, "r"), examples.RERANK_REQUEST),
    bodies.SimilarRequestBody: (lambda body: queries.similar_content_query(body, "r"), examples.SIMILAR_REQUEST),
    bodies.EventsRequestBody: (changes.feedback_events, examples.EVENTS_REQUEST),
    bodies.ItemBody: (lambda body: changes.item_change("i", body), examples.ITEM),
    bodies.ItemsRequestBody: (changes.catalog_call, examples.ITEMS_REQUEST),
    bodies.BundleShareBody: (changes.bundle_share, examples.BUNDLE_SHARE),
}


@pytest.fixture(scope="module")
def document(served):
    return served.get("/openapi.json").json()


def operations(document):
    return [
        (f"{method.upper()} {path}", operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]


def test_every_path_is_described(document):
    assert set(document["paths"]) == PATHS


def test_the_page_comes_from_here_alone(served):
    page = served.get("/docs").text
    assert "SwaggerUIBundle" in page
    parts = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(parts) >= 2
    assert [part for part in parts if not part.startswith("/docs/assets/")] == [], "nothing comes from another host"
    assert [served.get(part).status_code for part in parts] == [200] * len(parts)
    assert served.get("/docs/assets/../app.py").status_code == 404


def test_every_body_has_an_example_that_fits_its_schema(document):
    checked = 0
    for name, operation in operations(document):
        contents = [response.get("content", {}) for response in operation["responses"].values()]
        for content in (*contents, operation.get("requestBody", {}).get("content", {})):
            for kind, described in content.items():
                if kind != "text/plain":
                    schema = {**described["schema"], "components": document["components"]}
                    jsonschema.validate(described["example"], schema)
                    checked += 1
        assert operation["summary"], name
        assert len(operation["operationId"]) > 3
    assert checked > 60
    assert len({operation["operationId"] for _, operation in operations(document)}) == len(operations(document))


def test_every_parameter_is_read(document):
    described = {
        name: {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query"}
        for name, operation in operations(document)
    }
    read = {
        "GET /recommend": set(RECOMMEND_KINDS),
        "GET /v1/popular": set(POPULAR_KINDS),
        "GET /v1/items/{item_id}/similar": {*SIMILAR_KINDS, *WEIGHT_KINDS},
    }
    assert {name: names for name, names in described.items() if names} == read


@pytest.mark.parametrize("body", READERS, ids=lambda body: body.__name__)
def test_an_example_of_a_request_is_taken(body):
    read, example = READERS[body]
    body.model_validate(example)
    assert read(example)


def test_no_body_is_left_out():
    assert set(READERS) == set(bodies.REQUEST_BODIES)


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (bodies.RecommendRequestBody, queries.RECOMMEND),
        (bodies.BatchRequestBody, queries.BATCH),
        (bodies.RerankRequestBody, queries.RERANK),
        (bodies.SimilarRequestBody, queries.SIMILAR_CONTENT),
        (bodies.PastEventBody, queries.PAST_EVENT),
        (bodies.PromotionBody, queries.PROMOTION),
        (bodies.RulesBody, queries.RULES),
        (bodies.ModalityWeightsBody, queries.WEIGHTS),
        (bodies.EventBody, changes.EVENT),
        (bodies.EventsRequestBody, changes.EVENTS),
        (bodies.ItemBody, changes.ITEM),
        (bodies.ItemsRequestBody, changes.CALL),
        (bodies.BundleShareBody, changes.SHARE_OF),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_fields_are_those_that_are_read(body, shape):
    assert set(body.model_fields) == set(shape.fields)
    required = {name for name, field in body.model_fields.items() if field.is_required()}
    assert required == set(shape.required) - ({"item_id"} if body is bodies.ItemBody else set())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (bodies.RecommendRequestBody, pb.RecommendRequest),
        (bodies.BatchRequestBody, pb.BatchRecommendRequest),
        (bodies.RerankRequestBody, pb.RerankRequest),
        (bodies.SimilarRequestBody, pb.SimilarByContentRequest),
        (bodies.PastEventBody, pb.PastEvent),
        (bodies.PromotionBody, pb.Promotion),
        (bodies.RulesBody, pb.Rules),
        (bodies.ModalityWeightsBody, pb.ModalityWeights),
        (bodies.EventBody, pb.FeedbackEvent),
        (bodies.EventsRequestBody, pb.WriteEventsRequest),
        (bodies.ItemBody, pb.ItemChange),
        (bodies.BundleShareBody, pb.SetCanaryRequest),
        (bodies.BundleShareBody, pb.SetShadowRequest),
    ],
    ids=lambda value: getattr(value, "__name__", value.DESCRIPTOR.name if hasattr(value, "DESCRIPTOR") else ""),
)
def test_the_fields_are_those_of_grpc(body, message):
    assert set(body.model_fields) == {field.name for field in message.DESCRIPTOR.fields}


@pytest.mark.parametrize(
    ("read", "body"),
    [
        (lambda body: queries.recommend_query(body, "r"), {"user_id": "u", "surprise": 1}),
        (lambda body: changes.item_change("i", body), {"surprise": 1}),
    ],
)
def test_what_the_schema_forbids_is_refused(read, body):
    with pytest.raises(InvalidFieldsError, match="there is no field 'surprise'"):
        read(body)

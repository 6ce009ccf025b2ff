"""Every error has its way out, and the two transports' ways agree."""

import grpc
import pytest

from service import errors
from service.error_map import ERROR_MAP, wire_error
from service.rpc.statuses import status_of
from service.validation.violations import FieldViolation, InvalidFieldsError

HTTP_OF_GRPC = {
    "INVALID_ARGUMENT": {400},
    "NOT_FOUND": {404},
    "UNAUTHENTICATED": {401},
    "DEADLINE_EXCEEDED": {504},
    "RESOURCE_EXHAUSTED": {413, 429},
    "UNIMPLEMENTED": {501},
    "ABORTED": {409},
    "FAILED_PRECONDITION": {409},
    "UNAVAILABLE": {503},
    "INTERNAL": {500},
}


def tree(cls: type[errors.PlotPointeError]) -> set[type[errors.PlotPointeError]]:
    return {cls}.union(*(tree(child) for child in cls.__subclasses__()))


def test_every_class_of_the_tree_is_in_the_table():
    assert {cls for cls in tree(errors.PlotPointeError) if cls.__module__ == errors.__name__} == set(ERROR_MAP)


@pytest.mark.parametrize("cls", sorted(tree(errors.PlotPointeError), key=lambda cls: cls.__name__))
def test_both_transports_say_the_same(cls):
    error = cls(FieldViolation("k", "wrong")) if cls is InvalidFieldsError else cls("wrong", where="k", todo="Mend it")
    wire = wire_error(error)
    assert wire.http_status in HTTP_OF_GRPC[wire.grpc_code]
    code, status = status_of(error, "r-1")
    assert code is grpc.StatusCode[wire.grpc_code]
    assert status.code == code.value[0]
    assert error.reason.encode() in status.SerializeToString()
    assert (b"RetryInfo" in status.SerializeToString()) == (wire.http_status == 503)


def test_a_class_that_nobody_mapped_goes_out_as_its_parent():
    class Newer(errors.NotReadyError):
        """Raised by a module that was added later."""

    assert wire_error(Newer("x")) == ERROR_MAP[errors.NotReadyError]

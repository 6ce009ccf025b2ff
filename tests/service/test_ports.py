from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from service.errors import InputError, PortBusyError
from service.ports import listening, reserved


def test_a_reserved_port_can_be_shared_by_workers_and_is_refused_to_others() -> None:
    with reserved("127.0.0.1", 0, "grpc_port") as port:
        with pytest.raises(PortBusyError, match=f"port {port} "), listening("127.0.0.1", port, "grpc_port"):
            pass
        with pytest.raises(PortBusyError), reserved("127.0.0.1", port, "grpc_port"):
            pass
    with (
        listening("127.0.0.1", port, "grpc_port"),
        pytest.raises(PortBusyError),
        reserved("127.0.0.1", port, "grpc_port"),
    ):
        pass


def test_a_reserved_port_gets_no_connections_itself() -> None:
    with reserved("127.0.0.1", 0, "grpc_port") as port, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


@pytest.mark.parametrize("take", [listening, reserved])
def test_a_host_that_is_not_this_one_is_named(take: Callable[..., AbstractContextManager[object]]) -> None:
    with (
        pytest.raises(InputError, match=r"--host .PLOTPOINTE_HOST.: cannot listen on 192\.0\.2\.1"),
        take("192.0.2.1", 0, "x"),
    ):
        pass

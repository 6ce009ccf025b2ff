"""The ports of the service: taken by one service alone, or shared among the workers of one."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

from service.errors import InputError, PlotPointeError, PortBusyError

BACKLOG = 2048


@contextlib.contextmanager
def listening(host: str, port: int, setting: str) -> Iterator[socket.socket]:
    """A listening socket; PortBusyError or InputError names the setting to change."""
    try:
        listener = socket.create_server((host, port), family=_family(host), backlog=BACKLOG)
    except OSError as error:
        raise _refusal(error, host, port, setting) from error
    with listener:
        yield listener


@contextlib.contextmanager
def reserved(host: str, port: int, setting: str) -> Iterator[int]:
    """A port that several processes of this user may listen on, kept from everyone else; raises as `listening`.

    The socket that keeps it is bound and never listens: it gets no connections.
    """
    with listening(host, port, setting):
        pass  # a port that can be shared says of itself that it is free: this one asks whether it really is
    with socket.socket(_family(host)) as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            keeper.bind((host, port))
        except OSError as error:  # taken since it was asked for
            raise _refusal(error, host, port, setting) from error
        yield int(keeper.getsockname()[1])


def port_busy(host: str, port: int, setting: str) -> PortBusyError:
    """The error for a port that another process has."""
    return PortBusyError(
        f"port {port} on {host} is taken by another process",
        where=_names(setting),
        todo="End that process, or choose another port (0 lets the system choose)",
    )


def _refusal(error: OSError, host: str, port: int, setting: str) -> PlotPointeError:
    if error.errno == errno.EADDRINUSE:
        return port_busy(host, port, setting)
    name = "host" if error.errno != errno.EACCES else setting
    what = f"cannot listen on {host}, port {port}: {error.strerror or error}"
    return InputError(what, where=_names(name), todo="Choose another")


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _names(setting: str) -> str:
    return f"--{setting.replace('_', '-')} (PLOTPOINTE_{setting.upper()})"

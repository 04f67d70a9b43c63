"""Sockets to accept connections on, one or several that share a port, and their TLS."""

import asyncio
import os
import select
import socket
import ssl
import sys
from importlib.util import find_spec

from runtime.errors import ListenError, SettingError
from service.settings import Settings

BACKLOG = 4096  # connections that may wait to be accepted, as far as the system allows


def listen(host: str, port: int, shared: bool = False) -> socket.socket:
    """A listening socket on the address, or a ListenError.

    Args:
        shared: whether other sockets of this user may listen there too; the kernel deals connections out among them.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=shared)
    except OSError as error:
        raise ListenError(f"{host} port {port} cannot be listened on ({error.strerror}): choose another.") from error


def listen_shared(host: str, port: int, count: int) -> list[socket.socket]:
    """A listening socket for each of `count` processes, all on one port; one for all where the kernel cannot deal out.

    Raises:
        ListenError: the address cannot be listened on, or another service does already.
    """
    if sys.platform != "linux":
        return [listen(host, port)] * count
    if port:
        listen(host, port).close()  # sharing is among our own: a port that another service shares out is taken
    with listen(host, port, shared=True) as first:  # a port that the kernel chose is lost in a pause: name it
        return [listen(host, first.getsockname()[1], shared=True) for _ in range(count)]


def pause(listener: socket.socket) -> None:
    """Lets the kernel deal out no connections to the socket, in all processes; it keeps its address.

    Connections that nobody accepted yet are reset. Only Linux deals out: elsewhere nothing happens.
    """
    # once only: after a second shutdown, all that it accepts later would be shut down, too
    if sys.platform == "linux" and listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.shutdown(socket.SHUT_RD)


def listen_again(listener: socket.socket) -> None:
    """Ends a pause, if there is one."""
    listener.listen(BACKLOG)


def check_grpc(settings: Settings) -> None:
    """Raises SettingError or ListenError unless gRPC can be offered where the settings ask for it."""
    if settings.grpc_port is None:
        return
    if any(find_spec(name) is None for name in ("grpc", "grpc_health", "grpc_reflection")):
        raise SettingError("grpc_port needs the grpc extra: install grpcio and what belongs to it, or leave it out.")
    listen(settings.host, settings.grpc_port).close()  # workers share the port: another service must not have it


def has_left(connection: socket.socket) -> bool:
    """Whether a connection's client has closed it already, where the system can tell (Linux)."""
    poll = select.poll()
    poll.register(connection, getattr(select, "POLLRDHUP", 0))
    return bool(poll.poll(0))


def check_tls(settings: Settings) -> None:
    """Raises SettingError unless certificate and key are there and fit together, or neither is set."""
    cert, key, client_ca = settings.tls_cert, settings.tls_key, settings.tls_client_ca
    if cert is None and key is None and client_ca is None:
        return
    if cert is None or key is None:
        missing = "tls_cert" if cert is None else "tls_key"
        raise SettingError(f"{missing} is missing: TLS needs both, a file with the certificate and one with its key.")
    try:
        # an empty password, so that a key that has one is refused in the place of asking for it at the terminal
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise SettingError(
            f"{cert} and {key} cannot be used for TLS ({error}): name a certificate and its own key as PEM files, "
            "the key without a password."
        ) from error
    if client_ca is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(client_ca)
        except OSError as error:
            raise SettingError(
                f"{client_ca} cannot be used to check clients ({error}): name a PEM file with certificates."
            ) from error


def has_unread(transport: asyncio.Transport) -> bool:
    """Whether bytes lie in its socket that the event loop has not read."""
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as twin:
        try:
            return bool(twin.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

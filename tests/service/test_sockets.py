import socket
import sys

import pytest

from runtime.errors import ListenError
from service.sockets import has_left, listen, listen_again, listen_shared, pause

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux deals connections out among sockets")


def test_unknown_address_is_refused_in_one_sentence():
    with pytest.raises(ListenError, match=r"192\.0\.2\.1 port 0 cannot be listened on"):
        listen("192.0.2.1", 0)  # reserved for documentation, RFC 5737


@linux
def test_connections_are_dealt_out_among_sockets_on_one_port():
    listeners = listen_shared("127.0.0.1", 0, 2)
    address = listeners[0].getsockname()
    clients = [socket.create_connection(address) for _ in range(40)]
    accepted = []
    for listener in listeners:
        listener.setblocking(False)
        accepted.append([])
        while True:
            try:
                accepted[-1].append(listener.accept()[0])
            except BlockingIOError:
                break
    assert sum(map(len, accepted)) == 40 and all(accepted)
    for each in [*listeners, *clients, *accepted[0], *accepted[1]]:
        each.close()


@linux
def test_port_that_another_service_shares_out_is_taken():
    listeners = listen_shared("127.0.0.1", 0, 2)
    port = listeners[0].getsockname()[1]
    for attempt in (lambda: listen("127.0.0.1", port), lambda: listen_shared("127.0.0.1", port, 2)):
        with pytest.raises(ListenError, match=f"port {port} cannot be listened on"):
            attempt()
    for listener in listeners:
        listener.close()
    listen("127.0.0.1", port).close()


@linux
def test_socket_that_pauses_gets_no_connections_and_keeps_its_port():
    paused, other = listen_shared("127.0.0.1", 0, 2)
    address = paused.getsockname()
    pause(paused)
    pause(paused)
    other.setblocking(False)
    for _ in range(20):
        with socket.create_connection(address, timeout=5):
            other.accept()[0].close()
    listen_again(paused)
    listen_again(paused)
    other.close()
    with socket.create_connection(address, timeout=5) as client, paused.accept()[0] as accepted:
        assert not has_left(accepted)
        client.sendall(b"hi")
        assert accepted.recv(2) == b"hi"
    paused.close()

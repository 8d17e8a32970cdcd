"""The guard around the whole suite: no test opens a network connection."""

from __future__ import annotations

import socket
import urllib.request

import pytest
from conftest import NetworkError


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("198.51.100.7", 443)])
def test_a_connection_to_another_machine_is_refused(address: tuple[str, int]) -> None:
    with socket.socket() as one, pytest.raises(NetworkError, match="no test may open a network"):
        one.connect(address)


def test_a_datagram_to_another_machine_is_refused() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as one, pytest.raises(NetworkError, match="sendto"):
        one.sendto(b"x", ("192.0.2.1", 9))


def test_a_name_is_not_looked_up_and_nothing_is_downloaded() -> None:
    with pytest.raises(NetworkError, match="getaddrinfo to example.org"):
        socket.getaddrinfo("example.org", 80)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(NetworkError, match="getaddrinfo to example.org"):
        direct.open("http://example.org")


def test_this_machine_can_be_reached() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname(), timeout=5):
            pass

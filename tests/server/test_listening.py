"""The address of a server is taken at once, or refused in words."""

from __future__ import annotations

import socket

import pytest

from langchain_localhf.server.listening import AddressError, is_local, listen, url_of

pytestmark = pytest.mark.loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_free_port(host: str) -> None:
    """It is known as soon as it is taken, and clients may connect before anybody answers."""
    with listen(host, 0) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://127.0.0.1:{port}"
        assert is_local(listener)
        socket.create_connection(("127.0.0.1", port)).close()


def test_all_addresses() -> None:
    """Others than this machine may come."""
    with socket.create_server(("0.0.0.0", 0)) as listener:  # noqa: S104 - what is tested
        assert not is_local(listener)


def test_the_newer_kind_of_address() -> None:
    """As a client writes it."""
    try:
        listener = listen("::1", 0)
    except AddressError:
        pytest.skip("this machine has no IPv6")
    with listener:
        assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"
        assert is_local(listener)


def test_a_taken_port() -> None:
    """Two servers never share one."""
    with listen("127.0.0.1", 0) as first, pytest.raises(AddressError, match="Address already in use") as caught:
        listen("127.0.0.1", first.getsockname()[1])
    assert caught.value.hint == "use another --port, or end the program that has this one"

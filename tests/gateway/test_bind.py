"""What a `bind` says, and the sockets for it."""

from __future__ import annotations

import errno
import socket

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.bind import UNSENT_BYTES, Address, Bind, limit_unsent, listen, shared, split_bind


@pytest.mark.parametrize(
    ("bind", "parts"), [("127.0.0.1:8080", ("127.0.0.1", 8080)), ("[::1]:0", ("::1", 0)), (":8080", ("", 8080))]
)
def test_a_bind_is_a_host_and_a_port(bind, parts):
    assert parts == split_bind(bind)


@pytest.mark.parametrize("bind", ["8080", "host", "host:", "host:70000", "host:80x"])
def test_a_bind_that_is_none_is_refused(bind):
    with pytest.raises(ValidationError):
        TypeAdapter(Bind).validate_python(bind)


def test_an_address_reads_as_it_is_written():
    assert "127.0.0.1:80" == str(Address("127.0.0.1", 80))
    assert "[::1]:80" == str(Address("::1", 80))


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system has no such limit")
def test_a_listening_socket_bounds_what_the_kernel_holds_for_its_connections():
    with socket.socket() as listening:
        limit_unsent(listening)
        assert UNSENT_BYTES == listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", ""])
def test_it_listens_on_every_address_of_a_host(host):
    sockets = listen("public", f"{host}:0", 8)
    try:
        for one in sockets:
            with socket.create_connection(one.getsockname()[:2], timeout=5):
                taken, _ = one.accept()
                taken.close()
    finally:
        for one in sockets:
            one.close()


def test_a_port_that_is_taken_is_refused_and_nothing_stays_open():
    with listen("public", "127.0.0.1:0", 8)[0] as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use") as caught:
            listen("public", f"localhost:{port}", 8)
        assert errno.EADDRINUSE == caught.value.errno


def test_a_host_that_is_nowhere_is_refused():
    with pytest.raises(OSError, match=r"(?i)not known|resolution|no address"):
        listen("public", "no.such.host.invalid:0", 8)


def test_several_may_listen_on_one_port_where_all_of_them_say_so():
    first = listen("public", "127.0.0.1:0", 8, reuse_port=True)[0]
    with first:
        port = first.getsockname()[1]
        with listen("public", f"127.0.0.1:{port}", 8, reuse_port=True)[0]:
            pass
        with pytest.raises(OSError, match="in use"):
            listen("public", f"127.0.0.1:{port}", 8)


def test_shared_sockets_have_one_port_and_do_not_listen_yet():
    (one,), (two,) = shared("127.0.0.1:0", 2)
    with one, two:
        assert one.getsockname() == two.getsockname()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(one.getsockname(), timeout=5)
        two.listen(8)
        with socket.create_connection(one.getsockname(), timeout=5):
            pass


def test_a_port_that_anybody_else_has_is_not_shared():
    with listen("public", "127.0.0.1:0", 8, reuse_port=True)[0] as other, pytest.raises(OSError, match="in use"):
        shared(f"127.0.0.1:{other.getsockname()[1]}", 2)

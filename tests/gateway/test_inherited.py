from __future__ import annotations

import socket

import pytest

from gateway.inherited import NONE, Inherited, assigned


def server(host: str = "127.0.0.1", **how) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, 0), family=family, **how)


def port(one: socket.socket) -> int:
    return one.getsockname()[1]


def closed(sockets) -> None:
    for one in sockets:
        one.close()


def test_a_listener_has_the_sockets_of_its_name_whatever_it_binds():
    with server() as held, Inherited({"public": [held]}) as inherited:
        (one,) = inherited.listen("public", "127.0.0.1:1", 8)
        with one:
            assert held.getsockname() == one.getsockname()
            assert not one.getblocking()
            with socket.create_connection(held.getsockname()), one.accept()[0]:
                pass


def test_a_listener_of_another_name_opens_its_own():
    with server() as held, Inherited({"public": [held]}) as inherited:
        opened = inherited.listen("other", "127.0.0.1:0", 8)
        assert held.getsockname() != opened[0].getsockname()
        closed(opened)
    closed(NONE.listen("public", "127.0.0.1:0", 8))


def test_one_that_was_opened_for_another_address_than_its_listener_says_by_now_is_not_its():
    with server() as held, Inherited({"public": [held]}, {"public": "127.0.0.1:1"}) as inherited:
        opened = inherited.listen("public", "127.0.0.1:0", 8)
        assert held.getsockname() != opened[0].getsockname()
        closed(opened)
        opened = inherited.listen("public", "127.0.0.1:1", 8)
        assert held.getsockname() == opened[0].getsockname()
        closed(opened)


def test_what_was_opened_for_what_no_listener_says_any_more_is_let_go_of():
    with server() as one, server() as moved, server() as gone, server() as named:
        sockets = {"one": [one], "moved": [moved], "gone": [gone], "named": [named]}
        with Inherited(sockets, {"one": "a:1", "moved": "a:2", "gone": "a:3"}) as inherited:
            inherited.keep({"one": "a:1", "moved": "a:9"})
            # What has no bind of its own was handed over by its name.
            assert [False, True, True, False] == [held.fileno() < 0 for held in (one, moved, gone, named)]
            assert [[one], [], [], [named]] == [list(inherited.of(name)) for name in sockets]


def test_a_connection_that_comes_while_nobody_listens_waits_for_the_next_one():
    with server() as held, Inherited({"public": [held]}) as inherited:
        closed(inherited.listen("public", "", 8))
        with socket.create_connection(held.getsockname(), timeout=5):
            (one,) = inherited.listen("public", "", 8)
            with one:
                one.accept()[0].close()


def test_one_that_was_bound_and_does_not_listen_yet_listens_from_then_on():
    with socket.socket() as held, Inherited({"public": [held]}) as inherited:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(held.getsockname(), timeout=5)
        (one,) = inherited.listen("public", "", 8)
        with one, socket.create_connection(held.getsockname(), timeout=5):
            pass


def test_once_closed_what_a_listener_has_it_keeps_and_then_nobody_waits():
    with server() as held:
        inherited = Inherited({"public": [held]})
        (one,) = inherited.listen("public", "", 8)
        address = held.getsockname()
        inherited.close()
        inherited.close()
        with socket.create_connection(address, timeout=5):
            pass
        one.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)


def test_what_cannot_listen_is_said():
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with Inherited({"public": [one]}) as inherited, pytest.raises(OSError, match="Protocol not available"):
        inherited.listen("public", "", 8)


def test_a_socket_goes_to_the_listener_of_its_name():
    with assigned([("live", server())], {"public": "127.0.0.1:1", "live": "127.0.0.1:2"}) as found:
        closed(found.listen("live", "", 8))


@pytest.mark.parametrize(
    ("host", "how", "bind"),
    [
        ("127.0.0.1", {}, "127.0.0.1"),
        ("127.0.0.1", {}, "localhost"),
        ("0.0.0.0", {}, "0.0.0.0"),
        ("0.0.0.0", {}, ""),
        ("::1", {}, "[::1]"),
        ("::", {"dualstack_ipv6": True}, "[::]"),
        ("::", {"dualstack_ipv6": True}, "0.0.0.0"),
        ("::", {"dualstack_ipv6": True}, ""),
    ],
)
def test_a_socket_of_no_listeners_name_goes_to_the_one_that_binds_its_address(host, how, bind):
    held = server(host, **how)
    with assigned([("polygate.socket", held)], {"other": "127.0.0.1:1", "public": f"{bind}:{port(held)}"}) as found:
        (one,) = found.listen("public", "", 8)
        with one:
            assert held.getsockname() == one.getsockname()


@pytest.mark.parametrize("bind", ["127.0.0.1:1", "127.0.0.2:{port}", "[::1]:{port}"])
def test_a_socket_that_is_nobodys_is_refused_for_its_callers_would_wait_for_ever(bind):
    held = server()
    text = rf"the socket 'polygate.socket' \(127.0.0.1:{port(held)}\) was handed over, and no listener takes it: call it by a "
    with pytest.raises(ValueError, match=text):
        assigned([("polygate.socket", held)], {"public": bind.format(port=port(held))})
    assert -1 == held.fileno()


def test_a_socket_of_one_family_alone_is_not_for_the_other():
    held = server("::")
    with pytest.raises(ValueError, match="no listener takes it"):
        assigned([("unknown", held)], {"public": f"0.0.0.0:{port(held)}"})

from __future__ import annotations

import os
import re
import socket

import pytest

from gateway import systemd
from gateway.systemd import handed_over, notify, opened, reloading


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Give what systemd hears."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(tmp_path / "notify"))
        one.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield lambda: one.recv(1024).decode()


def test_it_says_how_it_is_to_whoever_asked(told):
    notify("READY=1")
    assert "READY=1" == told()


def test_a_reload_is_told_with_its_time(told):
    reloading()
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", told())


def test_an_abstract_socket_is_told_too(monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind("")
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + one.getsockname()[1:].decode())
        notify("STOPPING=1")
        assert b"STOPPING=1" == one.recv(1024)


def test_where_nobody_asked_nothing_is_said(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")


@pytest.mark.parametrize(
    "environment", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_FDS": "1"}], ids=["nothing", "another's", "nobody's"]
)
def test_what_was_handed_over_to_another_is_left_alone(environment):
    assert () == handed_over(environment)


def test_a_count_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="LISTEN_FDS is no number: 'x'"):
        handed_over({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"})


def test_sockets_come_with_their_names_and_children_do_not_have_them(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as one:
        duplicate = os.dup(one.fileno())
        os.set_inheritable(duplicate, True)
        monkeypatch.setattr(systemd, "FIRST", duplicate)
        environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "public", "OTHER": "1"}
        ((name, found),) = handed_over(environment)
        with found:
            assert ("public", one.getsockname()) == (name, found.getsockname())
            assert not os.get_inheritable(found.fileno())
        assert {"OTHER": "1"} == environment


def test_one_without_a_name_is_unknown(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as one:
        monkeypatch.setattr(systemd, "FIRST", os.dup(one.fileno()))
        ((name, found),) = handed_over({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})
        found.close()
        assert "unknown" == name


def test_what_is_no_socket_of_tcp_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no socket: Bad file descriptor"):
        opened(9_999)
    with (tmp_path / "file").open("w") as file, pytest.raises(ValueError, match="is no socket: "):
        opened(file.fileno())
    with socket.socket(socket.AF_UNIX) as one, pytest.raises(ValueError, match="is no socket of TCP"):
        opened(one.fileno())

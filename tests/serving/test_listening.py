"""Taking an address: all that can be wrong with it is one sentence, before a model is loaded."""

import socket

import pytest

from reliabit.errors import ReliabitError
from reliabit.serving.service import bound, listen, run_service


class Unasked:
    def current(self):
        raise AssertionError("a model was asked for")


@pytest.fixture
def taken():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_port_in_use_is_named_before_a_model_is_asked_for(taken):
    reason = f"cannot listen at 127.0.0.1 port {taken}: something listens there already; stop it or choose another port"
    with pytest.raises(ReliabitError, match=reason):
        run_service(Unasked(), port=taken)


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("nowhere.invalid", 0, "no address is known for the host 'nowhere.invalid'"),
        ("a" * 64 + ".invalid", 0, "no address is known"),
        ("", 70_000, "there is no port 70000; choose one of 1 to 65535"),
        ("127.0.0.1", -1, "there is no port -1"),
        # An address for documentation (RFC 5737), which no machine has.
        ("192.0.2.1", 0, "this machine has no such address"),
    ],
)
def test_a_wrong_address_is_refused_for_its_reason(host, port, reason):
    with pytest.raises(ReliabitError, match=reason) as caught:
        run_service(Unasked(), host=host, port=port)
    assert "\n" not in str(caught.value)


def test_nobody_can_connect_before_it_listens():
    with bound("127.0.0.1", 0) as sockets:
        address = sockets[0].getsockname()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)
        listen(sockets)
        socket.create_connection(address, timeout=5).close()
    with bound(*address) as again:
        assert again[0].getsockname() == address


def test_of_two_that_take_an_address_at_once_the_second_is_told():
    with bound("127.0.0.1", 0) as first, bound(*first[0].getsockname()) as second:
        listen(first)
        with pytest.raises(ReliabitError, match="something listens there already"):
            listen(second)


def test_a_name_has_one_port_at_all_its_addresses():
    with bound("localhost", 0) as sockets:
        assert len({one.getsockname()[1] for one in sockets}) == 1

from __future__ import annotations

import socket

from dev.ports import find_free_port, find_free_ports


def test_several_ports_differ_and_can_be_listened_on() -> None:
    ports = find_free_ports(5)
    assert len(set(ports)) == 5
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()


def test_the_preferred_port_is_taken_where_it_is_free_and_another_where_it_is_not() -> None:
    (preferred,) = find_free_ports(1)
    assert find_free_port(preferred) == preferred
    with socket.create_server(("127.0.0.1", preferred)):
        assert find_free_port(preferred) != preferred

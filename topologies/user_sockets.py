"""A UDP socket for every user, made in that user's network namespace."""

from __future__ import annotations

import resource
import socket

from controller.contracts.addressing import AGENT_UDP_PORT
from controller.contracts.inventory import Inventory, User
from topologies.namespaces import socket_in

_OTHER_DESCRIPTORS = 64


def open_sockets(inventory: Inventory) -> list[socket.socket]:
    """One a user, in the inventory's order, bound to the user's infrastructure address.

    Not connected: an ICMP error that one datagram caused must not cost the next.
    OSError names the user whose socket cannot be made.
    """
    _allow_descriptors(len(inventory.users) + _OTHER_DESCRIPTORS)
    hosts = {h.name: h for h in inventory.hosts}
    return [_open_socket(user, hosts[user.host].netns_path) for user in inventory.users]


def _allow_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise OSError(f"{count} descriptors are needed, the hard limit is {hard}")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def _open_socket(user: User, netns_path: str) -> socket.socket:
    opened = socket_in(netns_path, socket.AF_INET, socket.SOCK_DGRAM)
    opened.setblocking(False)
    try:
        opened.bind((user.infrastructure_ip, AGENT_UDP_PORT))
    except OSError as error:
        opened.close()
        place = f"{user.infrastructure_ip}:{AGENT_UDP_PORT}"
        raise OSError(error.errno, f"{user.ue_id} cannot bind {place}: {error.strerror}") from error
    return opened

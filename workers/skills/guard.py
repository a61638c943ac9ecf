"""Where a skill's request may go: the hosts its manifest registered, at addresses that are not inside our own network.

A name is resolved once per connection, every address it has is judged, and the connection goes to a judged address
and nowhere else, so that a name that answers differently the second time wins nothing. Redirects are not followed.

Refused always: link-local (where clouds keep their machines' credentials), multicast, unspecified and reserved
addresses. Refused unless the operator allows them: loopback and private ones. An IPv4 address inside an IPv6 one
(mapped, 6to4, NAT64) is judged as itself.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import httpcore

from workers.skills.wire import connect

Resolve = Callable[[str, int], Awaitable[list[str]]]
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_SHARED: Final = ipaddress.IPv4Network("100.64.0.0/10")  # carrier-grade NAT: neither global nor private by the library


class HostRefused(httpcore.ConnectError):
    """No address of the host may be reached."""


def address_allowed(text: str, allow_private: bool) -> bool:
    """Whether a request may go to this IP address. False for what is no address."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            address = inner
    if address.is_loopback:
        return allow_private
    if address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved:
        return False
    if isinstance(address, ipaddress.IPv4Address) and address in _SHARED:
        return allow_private
    return address.is_global or (allow_private and address.is_private)


async def system_resolve(host: str, port: int) -> list[str]:
    """Every address of a host, in the system's order. Raises OSError when there is none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(row[4][0]) for row in found))


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Opens connections for the pool, to judged addresses only. connects: how many it opened."""

    def __init__(self, allow_private: bool, resolve: Resolve = system_resolve) -> None:
        self.connects = 0
        self._allow_private = allow_private
        self._resolve = resolve

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:  # fmt: skip
        """Raises HostRefused when no address may be reached, httpcore.ConnectError or ConnectTimeout as usual."""
        try:
            addresses = await self._resolve(host.strip("[]"), port)
        except OSError as error:
            raise httpcore.ConnectError("the host's name has no address") from error
        allowed = [address for address in addresses if address_allowed(address, self._allow_private)]
        if not allowed or len(allowed) < len(addresses):
            raise HostRefused("the host has an address that may not be reached")
        failure: Exception | None = None
        for address in allowed:
            try:
                stream = await connect(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                self.connects += 1
                return stream
        assert failure is not None
        raise failure

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise HostRefused("skills are not reached over local sockets")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

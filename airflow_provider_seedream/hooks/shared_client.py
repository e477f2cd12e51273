"""Keeps one HTTP client per account and event loop, shared by all triggers of a triggerer process.

A client and its TLS context cost about 30 ms of CPU; one per poll stalls the event loop of a triggerer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import httpx

from airflow_provider_seedream.apixo.account import Account
from airflow_provider_seedream.apixo.client import AsyncApixoClient

MAX_CONNECTIONS = 100


@dataclass(slots=True)
class _Shared:
    client: AsyncApixoClient
    users: int = 0


_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Account, _Shared]] = WeakKeyDictionary()


@asynccontextmanager
async def shared_poll_client(account: Account) -> AsyncIterator[AsyncApixoClient]:
    """Lend a client for requests that buy nothing, shared with all others of this account and event loop.

    It is closed when its last user leaves.
    """
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    if account not in clients:
        clients[account] = _Shared(AsyncApixoClient(account, transport=_make_aiohttp_transport(account)))
    shared = clients[account]
    shared.users += 1
    try:
        yield shared.client
    finally:
        shared.users -= 1
        if shared.users == 0:
            del clients[account]
            await shared.client.close()


def _make_aiohttp_transport(account: Account) -> httpx.AsyncBaseTransport:
    """Put aiohttp under httpx's interface: a third less CPU per poll (``benchmarks/poll_cost.py``).

    It reports a lost answer as a failed connect (httpx-aiohttp 0.2.0), which is harmless for a poll, but
    would make a submission be repeated: submissions must not go through it.
    """
    import aiohttp
    from httpx_aiohttp import AiohttpTransport

    class Transport(AiohttpTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            try:
                return await super().handle_async_request(request)
            except aiohttp.ClientError as error:
                raise httpx.TransportError(str(error) or type(error).__name__) from error

    limits = httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS)
    return Transport(trust_env=not account.is_local, limits=limits)

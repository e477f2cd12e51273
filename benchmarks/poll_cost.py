"""Measures the CPU that one status poll costs in a triggerer, for three ways to keep the HTTP client.

All three poll the same sandbox in one run, in turns, so that the ratios hold on a noisy machine:

- a new httpx client per poll, as many providers do;
- one shared httpx client;
- one shared client over aiohttp, as this provider does.

    python benchmarks/poll_cost.py
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

from airflow_provider_seedream.apixo import exchange
from airflow_provider_seedream.apixo.account import Account
from airflow_provider_seedream.apixo.client import AsyncApixoClient
from airflow_provider_seedream.apixo.exchange import Timing
from airflow_provider_seedream.apixo.model import DEFAULT_MODEL
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.hooks.shared_client import shared_poll_client

ROUNDS = 7
POLLS = 40


async def main() -> None:
    """Print CPU per poll, and the ratios."""
    # The sandbox runs in a process of its own, so that its CPU is not counted.
    command = [sys.executable, "-m", "airflow_provider_seedream.sandbox", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sandbox:  # noqa: ASYNC220 - once, at the start
        assert sandbox.stdout is not None
        account = Account(api_key="bench", base_url=sandbox.stdout.readline().split()[-1])
        try:
            await compare(account)
        finally:
            sandbox.terminate()


async def compare(account: Account) -> None:
    """Measure the three ways in turns."""
    timing = Timing()
    request = GenerateRequest(prompt="bench [[seconds:9000]]")
    async with AsyncApixoClient(account) as client:
        task_id = await client.run(exchange.submit(request, timing=timing, report=print))

    async def poll(client: AsyncApixoClient) -> object:
        return await client.run(exchange.fetch_status(task_id, DEFAULT_MODEL, timing=timing, report=print))

    async def new_client() -> None:
        async with AsyncApixoClient(account) as client:
            await poll(client)

    figures: dict[str, list[float]] = {"new client per poll": [], "shared, httpx": [], "shared, aiohttp": []}
    async with AsyncApixoClient(account) as plain, shared_poll_client(account) as shared:
        for _ in range(ROUNDS):
            figures["new client per poll"].append(await measure_cpu_ms(new_client))
            figures["shared, httpx"].append(await measure_cpu_ms(lambda: poll(plain)))
            figures["shared, aiohttp"].append(await measure_cpu_ms(lambda: poll(shared)))
    ours = statistics.median(figures["shared, aiohttp"])
    for name, values in figures.items():
        figure = statistics.median(values)
        print(f"{name:20} {figure:6.2f} ms of CPU per poll   {figure / ours:5.1f} x")


async def measure_cpu_ms(poll: Callable[[], Awaitable[object]]) -> float:
    """Return the CPU milliseconds of this process per poll."""
    before = time.process_time()
    for _ in range(POLLS):
        await poll()
    return (time.process_time() - before) / POLLS * 1000


if __name__ == "__main__":
    asyncio.run(main())

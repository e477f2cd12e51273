"""A triggerer keeps one client per account, however many triggers poll."""

from __future__ import annotations

import asyncio

from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.hooks import shared_client
from airflow_provider_seedream.hooks.seedream import SeedreamHook
from tests.support.apixo import Apixo


class TestATriggererSharesOneClient:
    async def test_per_account(self, connected: Apixo) -> None:
        account = SeedreamHook().account
        async with (
            shared_client.shared_poll_client(account) as first,
            shared_client.shared_poll_client(await SeedreamHook().get_account_async()) as second,
        ):
            assert first is second
        async with shared_client.shared_poll_client(account) as third:
            assert third is not first

    async def test_a_hundred_waits_share_their_connections(self, connected: Apixo) -> None:
        hook = SeedreamHook()
        task_ids = [await hook.submit_async(GenerateRequest(prompt=f"fox {n}")) for n in range(100)]
        results = await asyncio.gather(*(SeedreamHook().wait_async(task_id) for task_id in task_ids))
        assert [status.task_id for status in results] == task_ids

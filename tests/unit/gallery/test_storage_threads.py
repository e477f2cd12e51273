from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from airflow_provider_seedream.gallery.storage_threads import StorageThreads
from airflow_provider_seedream.gallery.verified_images import ImageError
from tests.support.gates import LONG, Gate

HUNG = "s3://hung@bucket/image.png"
WELL = "s3://well@bucket/image.png"


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


def statuses(results: list[object]) -> Counter[object]:
    return Counter(result.status if isinstance(result, ImageError) else result for result in results)


async def hang(threads: StorageThreads, gate: Gate, requests: int) -> list[asyncio.Task[str]]:
    """So many requests to the store that hangs, of which those that get a thread are in its grip."""
    tasks = [asyncio.create_task(threads.run(HUNG, gate, LONG)) for _ in range(requests)]
    await gate.has_seen(min(requests, 4))
    return tasks


async def stick(threads: StorageThreads, gate: Gate, *buckets: str) -> None:
    """Let work hang in every one of these stores for longer than its time."""
    for bucket in buckets:
        with pytest.raises(ImageError) as late:
            await threads.run(f"s3://{bucket}/image.png", gate, 0.05)
        assert late.value.status == 504
        await gate.has_seen(1)


class TestWorkIsDoneElsewhere:
    async def test_on_a_thread_of_its_own(self) -> None:
        thread = await StorageThreads().run(WELL, threading.current_thread)
        assert thread is not threading.current_thread()

    async def test_and_its_error_is_the_requests(self) -> None:
        def gone() -> None:
            raise ImageError(404, "gone")

        with pytest.raises(ImageError, match="gone"):
            await StorageThreads().run(WELL, gone)

    def test_from_any_event_loop(self) -> None:
        threads = StorageThreads()
        assert [asyncio.run(threads.run(WELL, lambda: "here")) for _ in range(3)] == ["here"] * 3

    async def test_and_no_thread_outlives_it(self) -> None:
        threads = StorageThreads()
        thread = await threads.run(WELL, threading.current_thread)
        await asyncio.to_thread(thread.join, LONG)
        assert not thread.is_alive()


class TestAStoreThatHangs:
    async def test_is_given_up_for_every_one_of_fifty_requests(self, gate: Gate) -> None:
        threads = StorageThreads(waiting=32, seconds=0.1)
        requests = [threads.run(HUNG, gate) for _ in range(50)]
        results = await asyncio.gather(*requests, return_exceptions=True)
        refused = statuses(results)
        assert refused[503] + refused[504] == 50
        assert refused[503] >= 14
        assert gate.most == 4

    async def test_holds_up_no_other_store(self, gate: Gate) -> None:
        threads = StorageThreads()
        stuck = await hang(threads, gate, 20)
        assert await threads.run(WELL, lambda: "here") == "here"
        gate.open.set()
        assert await asyncio.gather(*stuck) == ["at last"] * 20

    async def test_is_not_waited_for_again(self, gate: Gate) -> None:
        threads = StorageThreads(seconds=0.1)
        first = await asyncio.gather(*(threads.run(HUNG, gate) for _ in range(4)), return_exceptions=True)
        assert statuses(first) == {504: 4}
        with pytest.raises(ImageError, match="s3://hung@bucket does not answer") as refusal:
            await asyncio.wait_for(threads.run(HUNG, gate, seconds=LONG), LONG / 2)
        assert refusal.value.status == 503

    async def test_is_none_that_is_slow_with_work_that_has_more_time(self, gate: Gate) -> None:
        threads = StorageThreads(seconds=0)
        downloads = await hang(threads, gate, 4)
        fifth = asyncio.create_task(threads.run(HUNG, lambda: "here", seconds=LONG))
        await asyncio.sleep(0)
        gate.open.set()
        assert await asyncio.gather(*downloads, fifth) == ["at last"] * 4 + ["here"]

    async def test_is_read_again_when_it_answers(self, gate: Gate) -> None:
        threads = StorageThreads(seconds=0.1)
        await asyncio.gather(*(threads.run(HUNG, gate) for _ in range(4)), return_exceptions=True)
        gate.open.set()
        async with asyncio.timeout(LONG):
            while True:
                try:
                    assert await threads.run(HUNG, lambda: "back", seconds=LONG) == "back"
                    return
                except ImageError:
                    await asyncio.sleep(0.01)

    async def test_does_nothing_later_for_those_who_have_gone(self, gate: Gate) -> None:
        threads, done = StorageThreads(threads=1), []
        (stuck,) = await hang(threads, gate, 1)
        with pytest.raises(ImageError):
            await threads.run(HUNG, lambda: done.append("for nobody"), seconds=0.01)
        gate.open.set()
        await stuck
        await threads.run(HUNG, lambda: done.append("for me"), seconds=LONG)
        assert done == ["for me"]

    def test_does_not_keep_the_process_from_ending(self) -> None:
        program = f"""
import asyncio, threading
from airflow_provider_seedream.gallery.verified_images import ImageError
from tests.support.gates import LONG, Gate
from airflow_provider_seedream.gallery.storage_threads import StorageThreads
try:
    asyncio.run(StorageThreads(seconds=0.1).run({HUNG!r}, threading.Event().wait))
except ImageError as error:
    print(error.status)
"""
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LONG)
        assert ended.stdout.strip() == "504"
        assert ended.returncode == 0


class TestManyStoresAtOnce:
    async def test_are_refused_beyond_a_number(self, gate: Gate) -> None:
        threads = StorageThreads(stores=1)
        (stuck,) = await hang(threads, gate, 1)
        with pytest.raises(ImageError, match="Too many storages are read") as refusal:
            await threads.run(WELL, lambda: "here")
        assert refusal.value.status == 503
        gate.open.set()
        await stuck

    async def test_are_not_refused_because_others_hang(self, gate: Gate) -> None:
        threads = StorageThreads(stores=1)
        await stick(threads, gate, "first", "second", "third")
        assert await threads.run(WELL, lambda: "here") == "here"

    async def test_are_refused_when_threads_run_out(self, gate: Gate) -> None:
        threads = StorageThreads(stuck=2)
        await stick(threads, gate, "first", "second")
        with pytest.raises(ImageError, match="Too many storages do not answer") as refusal:
            await threads.run(WELL, lambda: "here")
        assert refusal.value.status == 503

    async def test_are_no_matter_one_after_another(self) -> None:
        threads = StorageThreads(stores=1)
        for number in range(20):
            thread = await threads.run(f"s3://bucket-{number}/image.png", threading.current_thread)
            await asyncio.to_thread(thread.join, LONG)

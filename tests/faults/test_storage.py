"""What the destination shows when saving goes wrong, on local files and on S3, with real faults."""

from __future__ import annotations

import json
import logging
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_provider_seedream.sandbox.server import SandboxServer
from airflow_provider_seedream.storage.destination import resolve_destination
from airflow_provider_seedream.storage.manifest import Manifest
from airflow_provider_seedream.storage.naming import DEFAULT_TEMPLATE
from airflow_provider_seedream.storage.reuse import find_finished
from tests.faults.storage_disk import make_small_disk
from tests.faults.storage_places import (
    Address,
    Bucket,
    Folder,
    Place,
    list_visible,
    make_bucket,
    run_s3_server,
)
from tests.faults.storage_reader import compute_digest, watch
from tests.faults.storage_worker import TIMEOUT, Job, Outcome, Worker, run_worker
from tests.support.image_host import ImageHost, flipped, picture, running_host, stall
from tests.support.sandbox_control import SandboxControl

pytestmark = pytest.mark.long

FIXED = "hero-{index}"
FINGERPRINT = "0123456789abcdef" * 4
PARTS_FROM = 100 * 2**20
"""Bytes from which s3fs uploads a file in parts."""
PROBE_BYTES = 1000
"""More than the file that shows that a destination can be written."""


# --- the scene ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def s3_address() -> Iterator[Address]:
    with run_s3_server() as address:
        yield address


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "images")


@pytest.fixture
def bucket(s3_address: Address) -> Iterator[Bucket]:
    with make_bucket(s3_address) as bucket:
        yield bucket


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest) -> Place:
    place: Place = request.getfixturevalue(request.param)
    return place


@pytest.fixture
def host() -> Iterator[ImageHost]:
    with running_host() as running:
        yield running


@pytest.fixture(scope="session")
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(time_scale=0.005) as server:
        yield server


@dataclass(frozen=True)
class Result:
    """A task's images, as their host has them."""

    origin: str
    urls: Sequence[str]
    bodies: Sequence[bytes]


@pytest.fixture(scope="session")
def bought(sandbox: SandboxServer) -> Result:
    """Three images of one task of the sandbox."""
    request = {"prompt": "a fox", "mode": "text-to-image", "max_images": 3, "resolution": "2K"}
    client = httpx.Client(base_url=sandbox.base_url, headers={"Authorization": "Bearer key"})
    body = {"request_type": "async", "input": {**request, "sequential_image_generation": "disabled"}}
    task = client.post("/generateTask/seedream-4-5", json=body).json()["data"]["taskId"]

    def finished() -> Any:
        return (
            client.get("/statusTask/seedream-4-5", params={"taskId": task}).json()["data"].get("resultJson")
        )

    urls = json.loads(until(finished))["resultUrls"]
    return Result(sandbox.origin, urls, [httpx.get(url).content for url in urls])


@pytest.fixture
def faults(sandbox: SandboxServer) -> Iterator[Callable[..., None]]:
    """Switches faults of the result host on, or with no arguments off."""
    control = SandboxControl(sandbox.origin)

    def switch(times: int = 0, **action: Any) -> None:
        control.clear_faults()
        if times:
            control.fault("/results", times, **action)

    yield switch
    switch()


def until(condition: Callable[[], Any]) -> Any:
    """Wait for something that no event tells."""
    deadline = time.monotonic() + TIMEOUT
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)
    return found


def served(host: ImageHost, *bodies: bytes) -> Result:
    """Images on the host that can misbehave."""
    start = len(host.resources)
    urls = [host.put(f"/{number}.png", body) for number, body in enumerate(bodies, start + 1)]
    return Result(host.origin, urls, bodies)


def three(host: ImageHost) -> Result:
    return served(host, *(picture(size=(200, 200)) for _ in range(3)))


def heavy_picture() -> bytes:
    """A valid PNG that s3fs uploads in parts; most of it is a chunk that decoders skip."""
    small = picture()
    filler = b"fiLr" + bytes(PARTS_FROM)
    chunk = struct.pack(">I", PARTS_FROM) + filler + struct.pack(">I", zlib.crc32(filler))
    return small[:-12] + chunk + small[-12:]


def job_for(place: Place, result: Result, temp: Path, **options: Any) -> Job:
    temp.mkdir(exist_ok=True)
    return Job(
        urls=result.urls,
        destination=place.destination,
        trusted_origin=result.origin,
        env=place.env,
        temp=temp,
        **options,
    )


def run(job: Job) -> Outcome:
    return Worker(job).wait()


def check_finishes(job: Job, place: Place, result: Result) -> None:
    """The next try, in a fresh process, finishes the job and leaves nothing else."""
    outcome = run(job)
    assert outcome.error is None
    assert outcome.manifest is not None
    images = json.loads(outcome.manifest)["images"]
    assert [image["sha256"] for image in images] == [compute_digest(body) for body in result.bodies]
    assert [compute_digest(place.read(image["name"]) or b"") for image in images] == [
        image["sha256"] for image in images
    ]
    manifests = [name for name in place.list_versions() if name.endswith(".json")]
    assert [json.loads(place.read(name) or b"") for name in manifests] == [json.loads(outcome.manifest)]
    assert set(place.list_versions()) == {*manifests, *(image["name"] for image in images)}
    assert job.temp is not None
    assert list(job.temp.iterdir()) == []


def manifests(place: Place) -> set[str]:
    return {name for name in list_visible(place) if name.endswith(".json")}


# --- the faults --------------------------------------------------------------------------------------


class TestAWorkerIsKilledWhileItDownloads:
    @pytest.mark.fault(
        fault="Worker killed (SIGKILL) while it downloads an image, local files and S3",
        happens="The images that are there are whole, there is no manifest; the next try finishes the job",
        charge="nothing more",
    )
    def test_what_is_there_is_whole_and_the_next_try_finishes(
        self, place: Place, host: ImageHost, tmp_path: Path
    ) -> None:
        result = three(host)
        job = job_for(place, result, tmp_path / "temp")
        with watch(place, result.bodies):
            self.kill_during_third(host, job, lambda: len(list_visible(place)) == 2)
            assert list_visible(place) == {"task_1-1.png", "task_1-2.png"}
            check_finishes(job, place, result)

    @pytest.mark.fault(
        fault="Worker killed (SIGKILL) while it replaces older images under fixed names, local files and S3",
        happens="Each image is the whole old or the whole new one, and no manifest claims them; the next try "
        "finishes the job",
        charge="nothing more",
    )
    def test_a_refresh_never_mixes_two_results_under_one_manifest(
        self, place: Place, host: ImageHost, tmp_path: Path
    ) -> None:
        old, new = three(host), three(host)
        job = job_for(place, old, tmp_path / "temp", task_id="task_0", template=FIXED)
        check_finishes(job, place, old)
        job = replace(job, urls=new.urls, task_id="task_1")
        with watch(place, [*old.bodies, *new.bodies]):
            self.kill_during_third(host, job, lambda: place.read("hero-2.png") == new.bodies[1])
            assert list_visible(place) == {"hero-1.png", "hero-2.png", "hero-3.png"}
            assert place.read("hero-3.png") == old.bodies[2]
            check_finishes(job, place, new)

    @staticmethod
    def kill_during_third(host: ImageHost, job: Job, others_are_saved: Callable[[], bool]) -> None:
        reached, over = threading.Event(), threading.Event()
        third = host.resources[job.urls[2].removeprefix(host.origin)]
        third.faults.append(stall(len(third.body) // 2, over, reached))
        with run_worker(job) as worker:
            assert reached.wait(TIMEOUT)
            until(others_are_saved)
            assert worker.is_alive
            worker.kill()
        over.set()


class TestAWorkerIsKilledWhileItPlacesAnImage:
    @pytest.mark.fault(
        fault="Worker killed (SIGKILL) while it copies an image to a local folder",
        happens="No half image can be seen; the next try removes the hidden remains and finishes the job",
        charge="nothing more",
    )
    def test_a_local_copy_is_hidden_until_it_is_whole(
        self, folder: Folder, host: ImageHost, tmp_path: Path
    ) -> None:
        result = served(host, heavy_picture())
        job = job_for(folder, result, tmp_path / "temp")
        with watch(folder, result.bodies):
            until(lambda: self.kill_during_copy(folder, job, len(result.bodies[0])))
            assert list_visible(folder) == set()
            check_finishes(job, folder, result)

    @staticmethod
    def kill_during_copy(folder: Folder, job: Job, size: int) -> bool:
        """Whether the kill came while the copy was under way; it is quick, so it may come too late."""
        with run_worker(job) as worker:
            until(lambda: folder.measure_longest() > PROBE_BYTES or not worker.is_alive)
            worker.kill()
        caught = PROBE_BYTES < folder.measure_longest() < size
        if not caught:
            folder.clear()
        return caught

    @pytest.mark.fault(
        fault="Worker killed (SIGKILL) while it uploads an image to S3",
        happens="Nothing of the image can be seen; the next try finishes the job",
        charge="nothing more",
    )
    def test_an_upload_is_invisible_until_it_is_whole(
        self, bucket: Bucket, host: ImageHost, tmp_path: Path
    ) -> None:
        result = three(host)
        job = job_for(bucket, result, tmp_path / "temp")
        with watch(bucket, result.bodies):
            kill_during_upload(bucket, job, "task_1-2.png", after=50_000)
            assert "task_1-2.png" not in list_visible(bucket)
            assert manifests(bucket) == set()
            check_finishes(job, bucket, result)

    @pytest.mark.fault(
        fault="Worker killed (SIGKILL) while it uploads a large image to S3 in parts",
        happens="Nothing of the image can be seen; the next try finishes the job. The unseen parts stay in "
        "the bucket until its lifecycle rule deletes them",
        charge="nothing more",
    )
    def test_so_is_an_upload_in_parts(self, bucket: Bucket, host: ImageHost, tmp_path: Path) -> None:
        result = served(host, heavy_picture())
        job = job_for(bucket, result, tmp_path / "temp")
        with watch(bucket, result.bodies):
            kill_during_upload(bucket, job, "task_1-1.png?partNumber=2", after=5 * 2**20)
            assert list_visible(bucket) == set()
            check_finishes(job, bucket, result)
            assert bucket.list_unfinished_uploads() == ["catalog/task_1-1.png"]

    @pytest.mark.fault(
        fault="Worker killed (SIGKILL) while it uploads the manifest to S3",
        happens="All images are there and whole, the manifest is not; the next try finishes the job",
        charge="nothing more",
    )
    def test_the_manifest_comes_last_and_whole(self, bucket: Bucket, host: ImageHost, tmp_path: Path) -> None:
        result = three(host)
        job = job_for(bucket, result, tmp_path / "temp")
        with watch(bucket, result.bodies):
            kill_during_upload(bucket, job, "task_1-manifest.json", after=1000)
            assert list_visible(bucket) == {"task_1-1.png", "task_1-2.png", "task_1-3.png"}
            check_finishes(job, bucket, result)


def kill_during_upload(bucket: Bucket, job: Job, name: str, *, after: int) -> None:
    held = bucket.hold_upload(name, after)
    with run_worker(job) as worker:
        assert held.wait(TIMEOUT)
        assert worker.is_alive
        worker.kill()
    bucket.proxy.mend()


class TestAConnectionIsCut:
    @pytest.mark.fault(
        fault="Result host cuts every transfer half-way, local files and S3",
        happens="The task fails, nothing half can be seen; the next try finishes the job",
        charge="nothing more",
    )
    @pytest.mark.parametrize("action", [{"truncate": 20_000}, {"drop": "after"}], ids=str)
    def test_a_lasting_cut_leaves_nothing_half(
        self,
        place: Place,
        bought: Result,
        faults: Callable[..., None],
        tmp_path: Path,
        action: dict[str, Any],
    ) -> None:
        job = job_for(place, bought, tmp_path / "temp")
        with watch(place, bought.bodies):
            faults(1000, **action)
            outcome = run(job)
            assert "0 of 3 images saved" in str(outcome.error)
            assert place.list_versions() == {}
            faults()
            check_finishes(job, place, bought)

    @pytest.mark.fault(
        fault="Result host cuts some transfers half-way",
        happens="The rest is fetched at once, in the same try",
        charge="nothing more",
    )
    def test_a_passing_cut_is_survived(
        self, folder: Folder, bought: Result, faults: Callable[..., None], tmp_path: Path
    ) -> None:
        with watch(folder, bought.bodies):
            faults(3, truncate=50_000)
            check_finishes(job_for(folder, bought, tmp_path / "temp"), folder, bought)

    @pytest.mark.fault(
        fault="Connection to S3 cut in the middle of an upload",
        happens="Nothing half can be seen; a passing cut is survived, after a lasting one the next try "
        "finishes the job",
        charge="nothing more",
    )
    @pytest.mark.parametrize("lasting", [False, True], ids=["passing", "lasting"])
    def test_so_is_one_on_the_way_to_the_store(
        self, bucket: Bucket, host: ImageHost, tmp_path: Path, lasting: bool
    ) -> None:
        result = three(host)
        job = job_for(bucket, result, tmp_path / "temp")
        with watch(bucket, result.bodies):
            cut = bucket.cut_uploads("task_1-2.png", after=50_000, times=1000 if lasting else 1)
            if lasting:
                outcome = run(job)
                assert "2 of 3 images saved" in str(outcome.error)
                assert list_visible(bucket) == {"task_1-1.png", "task_1-3.png"}
                bucket.proxy.mend()
            check_finishes(job, bucket, result)
        assert cut.is_set()


class TestBytesAreFlipped:
    @pytest.mark.fault(
        fault="Bytes flipped on the way from the result host, local files and S3",
        happens="The image is fetched again; if it stays damaged, the task fails and nothing of it can be "
        "seen; the next try finishes the job",
        charge="nothing more",
    )
    def test_a_damaged_image_is_never_shown(
        self, place: Place, bought: Result, faults: Callable[..., None], tmp_path: Path
    ) -> None:
        job = job_for(place, bought, tmp_path / "temp")
        with watch(place, bought.bodies):
            faults(1000, corrupt=True)
            outcome = run(job)
            assert "0 of 3 images saved" in str(outcome.error)
            assert place.list_versions() == {}
            faults(2, corrupt=True)
            check_finishes(job, place, bought)

    @pytest.mark.fault(
        fault="Bytes of a saved image flipped in the storage, local files and S3",
        happens="The set is not reused; a Download fetches that image again",
        charge="nothing more",
    )
    @pytest.mark.parametrize("template", [DEFAULT_TEMPLATE, FIXED, "{seedream_task_id}/{index}"])
    def test_damage_at_rest_is_noticed(
        self,
        place: Place,
        host: ImageHost,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        template: str,
    ) -> None:
        result = three(host)
        job = job_for(place, result, tmp_path / "temp", template=template, fingerprint=FINGERPRINT)
        for name, value in place.env.items():
            monkeypatch.setenv(name, value)

        def found() -> Manifest | None:
            destination = resolve_destination(place.destination)
            return find_finished(destination, template, FINGERPRINT, log=logging.getLogger("test"))

        assert found() is None
        check_finishes(job, place, result)
        whole = found()
        assert whole is not None
        place.write(whole.images[1].name, flipped(result.bodies[1]))
        assert found() is None
        host.requests.clear()
        check_finishes(job, place, result)
        assert [path for path, _ in host.requests] == ["/2.png"]
        assert found() is not None


class TestADiskIsFull:
    @pytest.mark.fault(
        fault="Disk of the destination full",
        happens="The task fails and names the reason, nothing half can be seen; with room again, the next "
        "try finishes the job",
        charge="nothing more",
    )
    def test_the_destinations(self, host: ImageHost, tmp_path: Path) -> None:
        result = three(host)
        with make_small_disk(tmp_path / "disk") as disk:
            folder = Folder(disk.path / "images")
            disk.fill()
            job = job_for(folder, result, tmp_path / "temp")
            with watch(folder, result.bodies):
                outcome = run(replace(job, **disk.make_limits(copies_only=True)))
                assert "0 of 3 images saved" in str(outcome.error)
                assert f"could not write {folder.destination}" in str(outcome.error)
                assert disk.refusal in str(outcome.error)
                assert folder.list_versions() == {}
                disk.free()
                check_finishes(job, folder, result)

    @pytest.mark.fault(
        fault="Temporary disk of the worker full, local files and S3",
        happens="The task fails and names the reason, nothing half can be seen; with room again, the next "
        "try finishes the job",
        charge="nothing more",
    )
    def test_the_workers_own(self, place: Place, host: ImageHost, tmp_path: Path) -> None:
        result = three(host)
        with make_small_disk(tmp_path / "disk") as disk:
            disk.fill()
            job = job_for(place, result, disk.path / "temp")
            with watch(place, result.bodies):
                outcome = run(replace(job, **disk.make_limits(copies_only=False)))
                assert "0 of 3 images saved" in str(outcome.error)
                assert "temporary folder of this worker" in str(outcome.error)
                assert disk.refusal in str(outcome.error)
                assert place.list_versions() == {}
                disk.free()
                check_finishes(job, place, result)

"""Runs a worker that saves a task's images, in a process of its own that can be killed."""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_seedream.errors import SeedreamError
from airflow_provider_seedream.storage.destination import check_writable, resolve_destination
from airflow_provider_seedream.storage.fetch import DownloadLimits
from airflow_provider_seedream.storage.manifest import TaskRecord
from airflow_provider_seedream.storage.naming import DEFAULT_TEMPLATE
from airflow_provider_seedream.storage.save import save_task

TIMEOUT = 60
"""Seconds after which a test gives up waiting for an event."""


@dataclass(frozen=True, slots=True)
class Job:
    """The job of a worker.

    :param env: environment variables, such as the storage connection.
    :param longest_file: bytes beyond which the kernel refuses to write to a file; ``None`` for no limit.
    :param limit_copies_only: have the limit apply when the first image is copied to its place, not before.
    """

    urls: Sequence[str]
    destination: str
    trusted_origin: str
    task_id: str = "task_1"
    fingerprint: str | None = None
    template: str = DEFAULT_TEMPLATE
    env: Mapping[str, str] = field(default_factory=dict)
    temp: Path | None = None
    longest_file: int | None = None
    limit_copies_only: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a worker: with a manifest, with an error, or (neither) by a kill."""

    manifest: str | None = None
    error: str | None = None


class Worker:
    """A running worker."""

    def __init__(self, job: Job) -> None:
        fresh = multiprocessing.get_context("forkserver")
        # A process that is forked from one that has Airflow loaded, but has never run anything.
        fresh.set_forkserver_preload([__name__, "s3fs"])
        self._answers, theirs = fresh.Pipe(duplex=False)
        self._process = fresh.Process(target=_run, args=(job, theirs), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def is_alive(self) -> bool:
        """True while it runs."""
        return self._process.is_alive()

    def kill(self) -> None:
        """Kill it (SIGKILL), and return when the process is gone."""
        self._process.kill()
        self._process.join(TIMEOUT)

    def wait(self) -> Outcome:
        """Wait for its end, and return that."""
        try:
            if not self._answers.poll(TIMEOUT):
                raise TimeoutError("the worker did not end")
            return Outcome(**self._answers.recv())
        except EOFError:
            return Outcome()
        finally:
            self.kill()


@contextmanager
def run_worker(job: Job) -> Iterator[Worker]:
    """Run a worker that is gone afterwards."""
    worker = Worker(job)
    try:
        yield worker
    finally:
        worker.kill()


def _run(job: Job, answer: Any) -> None:
    logging.basicConfig(level=logging.INFO)
    os.environ.update(job.env)
    tempfile.tempdir = str(job.temp) if job.temp else None
    if job.longest_file is not None:
        _limit_files(job.longest_file, copies_only=job.limit_copies_only)
    try:
        answer.send({"manifest": _save(job)})
    except SeedreamError as error:
        answer.send({"error": f"{type(error).__name__}: {error}"})


def _save(job: Job) -> str:
    destination = resolve_destination(job.destination)
    check_writable(destination)
    manifest = save_task(
        TaskRecord(seedream_task_id=job.task_id, fingerprint=job.fingerprint),
        job.urls,
        destination,
        template=job.template,
        trusted_origin=job.trusted_origin,
        limits=DownloadLimits(backoff=0),
        log=logging.getLogger("worker"),
    )
    return manifest.to_json()


def _limit_files(size: int, *, copies_only: bool) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def limit_from_first_image(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "shutil.copyfile" and "probe" not in str(arguments[1]):
            limit()

    if copies_only:
        sys.addaudithook(limit_from_first_image)
    else:
        limit()

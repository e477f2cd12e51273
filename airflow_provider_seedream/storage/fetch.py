"""Fetches a result URL to a local file: streamed, bounded, resumed where it broke off, redirects checked.

No credential comes near this module: it has an HTTP client of its own that knows no API key.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self, TypeVar

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type

from airflow_provider_seedream import __version__
from airflow_provider_seedream.apixo.answers import read_retry_after
from airflow_provider_seedream.apixo.backoff import compute_backoff
from airflow_provider_seedream.apixo.text import hide_secrets
from airflow_provider_seedream.errors import DownloadError, ResultExpiredError
from airflow_provider_seedream.storage.errors import BrokenTransferError, StorageError, UnusableImageError
from airflow_provider_seedream.storage.url_policy import check_url

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

T = TypeVar("T")

MAX_REDIRECTS = 5
_EXPIRED = (403, 404, 410)
_RETRIED = (408, 416, 425, 429)


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """Bounds of one download.

    :param max_bytes: longest file that is accepted; a 4K PNG of pure noise has 48 MiB.
    :param connect_timeout: seconds.
    :param read_timeout: seconds without a byte.
    :param total_timeout: seconds for one file, with all its attempts.
    :param attempts: attempts at one file; some failures are worth fewer, see ``BrokenTransferError``.
    :param backoff: seconds; what the pauses between attempts grow from, see ``apixo.backoff``.
    :param max_pause: seconds; a host that asks for a longer pause ends the download.
    """

    max_bytes: int = 128 * 2**20
    connect_timeout: float = 10
    read_timeout: float = 30
    total_timeout: float = 300
    attempts: int = 4
    backoff: float = 1
    max_pause: float = 60


DEFAULT_LIMITS = DownloadLimits()


class Fetcher:
    """Fetches result URLs, several at once if called from several threads.

    :param trusted_origin: such as ``http://127.0.0.1:8765``; exempt from the rules of ``url_policy``.
    :param sleep: takes seconds; by default a pause that :meth:`stop` ends.
    :param log: told about every attempt that is repeated.
    """

    def __init__(
        self,
        *,
        trusted_origin: str | None = None,
        limits: DownloadLimits = DEFAULT_LIMITS,
        sleep: Callable[[float], None] | None = None,
        log: Logger,
    ) -> None:
        self._trusted_origin = trusted_origin
        self._limits = limits
        self._stopped = threading.Event()
        self._sleep = sleep or self._wait
        self._log = log
        self._client = _make_client(limits, trusted_origin)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def stop(self) -> None:
        """Make every running and later fetch end soon, with an error; may be called from any thread."""
        self._stopped.set()

    def fetch(self, url: str, target: Path, check: Callable[[Path], T]) -> T:
        """Fetch one file and have it checked.

        :param target: the local file; overwritten.
        :param check: judges the finished file; its ``UnusableImageError`` has the file fetched anew.
        :returns: what ``check`` returned.
        :raises ResultExpiredError: the host no longer has the file (403, 404, 410).
        :raises RefusedUrlError: the URL, or where it redirects to, must not be fetched.
        :raises StorageError: the local disk took no more.
        :raises DownloadError: every other failure, after the attempts it was worth.
        """
        transfer = _Transfer(target)
        deadline = time.monotonic() + self._limits.total_timeout

        def attempt() -> T:
            self._receive(url, transfer, deadline)
            try:
                return check(target)
            except UnusableImageError:
                transfer.restart()
                raise

        return Retrying(
            retry=retry_if_exception_type(BrokenTransferError),
            stop=self._must_stop,
            wait=self._compute_pause,
            sleep=self._sleep,
            before_sleep=lambda state: self._report(url, state),
            reraise=True,
        )(attempt)

    def _must_stop(self, state: RetryCallState) -> bool:
        error = _read_error(state)
        return (
            self._stopped.is_set()
            or state.attempt_number >= min(self._limits.attempts, error.max_attempts)
            or (state.seconds_since_start or 0) >= self._limits.total_timeout
            or (error.retry_after or 0) > self._limits.max_pause
        )

    def _compute_pause(self, state: RetryCallState) -> float:
        jittered = compute_backoff(state.attempt_number, random.uniform, base=self._limits.backoff)
        return max(jittered, _read_error(state).retry_after or 0)

    def _wait(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    def _report(self, url: str, state: RetryCallState) -> None:
        self._log.warning(
            "Attempt %d at %s: %s; trying again in %.1f s",
            state.attempt_number,
            hide_secrets(url),
            _read_error(state),
            state.upcoming_sleep,
        )

    def _receive(self, url: str, transfer: _Transfer, deadline: float) -> None:
        """Make one attempt: send the request and write down the body."""
        self._check_progress(0, deadline)
        try:
            with self._open_response(url, transfer.make_headers()) as response:
                if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                    transfer.restart()
                _check_status(response)
                self._write(response, transfer, deadline)
        except httpx.HTTPError as error:
            raise BrokenTransferError(f"the transfer broke off: {type(error).__name__} {error}") from None

    @contextmanager
    def _open_response(self, url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """Open the first answer that is no redirect; every hop passes the same check as the first URL."""
        target = check_url(url, self._trusted_origin)
        for _ in range(MAX_REDIRECTS + 1):
            request = self._client.build_request("GET", target, headers=headers)
            response = self._client.send(request, stream=True)
            try:
                if not response.has_redirect_location:
                    yield response
                    return
                target = check_url(_resolve_redirect(target, response), self._trusted_origin)
            finally:
                response.close()
        raise DownloadError(f"it redirects more than {MAX_REDIRECTS} times", retryable=False)

    def _write(self, response: httpx.Response, transfer: _Transfer, deadline: float) -> None:
        with transfer.open_for(response) as file:
            for chunk in response.iter_raw():
                file.write(chunk)
                self._check_progress(file.tell(), deadline)
        transfer.check_complete(response)

    def _check_progress(self, received: int, deadline: float) -> None:
        if self._stopped.is_set():
            raise DownloadError("it was stopped")
        if received > self._limits.max_bytes:
            raise DownloadError(f"it is longer than {self._limits.max_bytes} bytes", retryable=False)
        if time.monotonic() > deadline:
            raise DownloadError(f"it took longer than {self._limits.total_timeout:g} s")


class _Transfer:
    """One file on its way over one or more attempts: what has arrived, and whether it can be resumed."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._etag: str | None = None

    def restart(self) -> None:
        """Have the next attempt begin from zero."""
        self._etag = None

    def make_headers(self) -> dict[str, str]:
        """Ask for a part only where a strong ETag guarantees that it belongs to what is here (RFC 9110)."""
        if self._etag is None or not self._count_received():
            return {}
        return {"Range": f"bytes={self._count_received()}-", "If-Range": self._etag}

    @contextmanager
    def open_for(self, response: httpx.Response) -> Iterator[BinaryIO]:
        """Open the local file where this response's body belongs."""
        start = self._find_start(response)
        self._etag = _read_strong_etag(response)
        try:
            with self._target.open("r+b" if start else "wb") as file:
                file.seek(start)
                yield file
        except OSError as error:
            raise StorageError(f"could not write to the temporary folder of this worker: {error}") from None

    def check_complete(self, response: httpx.Response) -> None:
        """Compare with the length that the host announced, where it did."""
        if response.status_code == httpx.codes.PARTIAL_CONTENT:
            total = _read_content_range(response)[1]
            if total is not None and total != self._count_received():
                self.restart()
                raise BrokenTransferError(f"{self._count_received()} bytes came, {total} were announced")

    def _count_received(self) -> int:
        return self._target.stat().st_size if self._target.exists() else 0

    def _find_start(self, response: httpx.Response) -> int:
        """Return the offset at which this response's body belongs."""
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            return 0
        start = _read_content_range(response)[0]
        etag = _read_strong_etag(response)
        if start is None or start != self._count_received() or etag != self._etag or etag is None:
            self.restart()
            raise BrokenTransferError("the host answered with another part than was asked for")
        return start


def _make_client(limits: DownloadLimits, trusted_origin: str | None) -> httpx.Client:
    return httpx.Client(
        headers={
            "User-Agent": f"airflow-provider-seedream/{__version__}",
            "Accept": "image/png, image/jpeg, image/webp",
            # Ranges and lengths count encoded bytes, so none may be encoded.
            "Accept-Encoding": "identity",
        },
        timeout=httpx.Timeout(limits.read_timeout, connect=limits.connect_timeout, pool=None),
        follow_redirects=False,
        # A proxy of the environment cannot reach the sandbox on this machine.
        mounts={trusted_origin: None} if trusted_origin else None,
    )


def _read_error(state: RetryCallState) -> BrokenTransferError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, BrokenTransferError)  # the only kind that is retried
    return error


def _resolve_redirect(base: httpx.URL, response: httpx.Response) -> httpx.URL | str:
    location = response.headers["location"]
    try:
        return base.join(location)
    except httpx.InvalidURL:
        return str(location)


def _read_strong_etag(response: httpx.Response) -> str | None:
    etag = str(response.headers.get("etag", ""))
    return etag if etag.startswith('"') else None


def _read_content_range(response: httpx.Response) -> tuple[int | None, int | None]:
    """Return start and total length in bytes; ``None`` for what the header does not say."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("content-range", ""))
    if match is None:
        return None, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _check_status(response: httpx.Response) -> None:
    status = response.status_code
    if status in (200, 206):
        return
    where = f"HTTP {status} from {hide_secrets(str(response.url))}"
    if status in _EXPIRED:
        raise ResultExpiredError(
            f"{where}: the result host no longer serves it. The vendor keeps results for 15 days (other "
            "pages of it say 24 hours). What was bought stays billed; a new generation is needed"
        )
    if status in _RETRIED or status >= 500:
        asked = read_retry_after(response.headers.get("retry-after"), time.time())
        raise BrokenTransferError(where + _describe_pause(asked), retry_after=asked)
    raise DownloadError(where, retryable=False)


def _describe_pause(seconds: float | None) -> str:
    return "" if seconds is None else f", which asks to wait {seconds:g} s"

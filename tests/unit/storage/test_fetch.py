from __future__ import annotations

import logging
import threading
import tracemalloc
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import pytest

from airflow_provider_seedream.errors import DownloadError, ResultExpiredError
from airflow_provider_seedream.storage.errors import RefusedUrlError, StorageError, UnusableImageError
from airflow_provider_seedream.storage.fetch import DownloadLimits, Fetcher
from tests.support.image_host import (
    Handler,
    ImageHost,
    Resource,
    announce,
    cut,
    instead,
    picture,
    redirect,
    stall,
    status,
    unannounced,
    wrong_part,
)

BODY = bytes(range(256)) * 1024

Fetch = Callable[..., bytes]


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def fetch(host: ImageHost, tmp_path: Path, pauses: list[float], log: logging.Logger) -> Fetch:
    """Fetch a URL from the trusted host and return the file's bytes; pauses are recorded, not slept."""

    def run(url: str, check: Callable[[Path], object] = Path.stat, **limits: float) -> bytes:
        bounds = DownloadLimits(**limits)  # type: ignore[arg-type]
        with Fetcher(trusted_origin=host.origin, limits=bounds, sleep=pauses.append, log=log) as fetcher:
            fetcher.fetch(url, tmp_path / "download", check)
        return (tmp_path / "download").read_bytes()

    return run


class TestABrokenTransferIsCarriedOn:
    def test_the_rest_is_asked_for_and_appended(self, host: ImageHost, fetch: Fetch) -> None:
        assert fetch(host.put("/a.png", BODY, cut(100_000))) == BODY
        assert host.ranges() == [None, "bytes=100000-"]
        assert host.requests[1][1]["If-Range"] == host.resources["/a.png"].tag

    def test_it_may_break_more_than_once(self, host: ImageHost, fetch: Fetch) -> None:
        def cut_again(handler: Handler, resource: Resource) -> None:
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes 1000-{len(BODY) - 1}/{len(BODY)}")
            handler.finish_headers(resource, len(BODY) - 1000)
            handler.wfile.write(BODY[1000:3000])
            handler.hang_up()

        assert fetch(host.put("/a.png", BODY, cut(1000), cut_again)) == BODY
        assert host.ranges() == [None, "bytes=1000-", "bytes=3000-"]

    def test_a_host_that_ignores_ranges_is_read_from_the_start(self, host: ImageHost, fetch: Fetch) -> None:
        assert fetch(host.put("/a.png", BODY, cut(1000), ranges=False)) == BODY

    def test_without_an_etag_nothing_is_appended(self, host: ImageHost, fetch: Fetch) -> None:
        assert fetch(host.put("/a.png", BODY, cut(1000), etag=False)) == BODY
        assert host.ranges() == [None, None]

    def test_a_file_that_changed_in_between_is_read_from_the_start(
        self, host: ImageHost, fetch: Fetch
    ) -> None:
        def cut_and_change(handler: Handler, resource: Resource) -> None:
            cut(1000)(handler, resource)
            resource.body = BODY[::-1]

        assert fetch(host.put("/a.png", BODY, cut_and_change)) == BODY[::-1]

    def test_a_part_of_a_file_that_changed_is_not_appended(self, host: ImageHost, fetch: Fetch) -> None:
        def changed_part(handler: Handler, resource: Resource) -> None:
            resource.body = BODY[::-1]
            wrong_part(1000)(handler, resource)

        assert fetch(host.put("/a.png", BODY, cut(1000), changed_part)) == BODY[::-1]
        assert host.ranges() == [None, "bytes=1000-", None]

    def test_another_part_than_asked_for_is_not_appended(self, host: ImageHost, fetch: Fetch) -> None:
        assert fetch(host.put("/a.png", BODY, cut(1000), wrong_part(5000))) == BODY
        assert host.ranges() == [None, "bytes=1000-", None]

    def test_a_range_that_cannot_be_satisfied_starts_over(self, host: ImageHost, fetch: Fetch) -> None:
        assert fetch(host.put("/a.png", BODY, cut(1000), status(416))) == BODY
        assert host.ranges() == [None, "bytes=1000-", None]

    def test_silence_counts_as_broken(self, host: ImageHost, fetch: Fetch) -> None:
        over = threading.Event()
        assert fetch(host.put("/a.png", BODY, stall(1000, over)), read_timeout=0.2) == BODY
        over.set()

    def test_fewer_bytes_than_announced_count_as_broken(self, host: ImageHost, fetch: Fetch) -> None:
        assert fetch(host.put("/a.png", BODY, announce(len(BODY) + 1), etag=False)) == BODY

    def test_after_four_attempts_it_is_an_error_that_a_later_run_may_cure(
        self, host: ImageHost, fetch: Fetch
    ) -> None:
        url = host.put("/a.png", BODY, *[cut(10)] * 9, etag=False)
        with pytest.raises(DownloadError, match="broke off") as failed:
            fetch(url)
        assert len(host.requests) == 4
        assert failed.value.retryable


class TestAFileThatFailsItsCheckIsFetchedAnew:
    def test_from_the_start_and_whole(self, host: ImageHost, fetch: Fetch) -> None:
        def whole(path: Path) -> None:
            if path.read_bytes() != BODY:
                raise UnusableImageError("half")

        assert fetch(host.put("/a.png", BODY, unannounced(50_000), instead(BODY[::-1])), whole) == BODY
        assert host.ranges() == [None, None, None]


class TestAHostThatAsksForAPauseGetsIt:
    @pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
    def test_a_passing_refusal_is_repeated(self, host: ImageHost, fetch: Fetch, code: int) -> None:
        assert fetch(host.put("/a.png", BODY, status(code))) == BODY

    def test_retry_after_in_seconds_is_the_least_pause(
        self, host: ImageHost, fetch: Fetch, pauses: list[float]
    ) -> None:
        fetch(host.put("/a.png", BODY, status(429, Retry_After="17")), backoff=0.001)
        assert pauses == [17]

    def test_retry_after_as_a_date_is_understood(
        self, host: ImageHost, fetch: Fetch, pauses: list[float]
    ) -> None:
        past = formatdate(0, usegmt=True)
        fetch(host.put("/a.png", BODY, status(503, Retry_After=past)), backoff=0)
        assert pauses == [0]

    def test_a_pause_beyond_reason_ends_the_download_at_once(
        self, host: ImageHost, fetch: Fetch, pauses: list[float]
    ) -> None:
        with pytest.raises(DownloadError, match="asks to wait 3600 s"):
            fetch(host.put("/a.png", BODY, status(429, Retry_After="3600")))
        assert pauses == []

    def test_pauses_grow_and_vary(self, host: ImageHost, fetch: Fetch, pauses: list[float]) -> None:
        url = host.put("/a.png", BODY, *[status(503)] * 3)
        fetch(url, backoff=1)
        assert len(set(pauses)) == 3
        assert all(0 <= pause <= 2**attempt for attempt, pause in enumerate(pauses, 1))


class TestAnExpiredResultSaysSo:
    @pytest.mark.parametrize("code", [403, 404, 410])
    def test_at_once_with_what_it_means(self, host: ImageHost, fetch: Fetch, code: int) -> None:
        url = host.put("/a.png", BODY, *[status(code)] * 4)
        with pytest.raises(
            ResultExpiredError, match=f"HTTP {code}.*15 days.*24 hours.*billed.*new generation"
        ):
            fetch(url + "?signature=secret")
        assert len(host.requests) == 1

    def test_the_signature_of_the_url_is_not_repeated(self, host: ImageHost, fetch: Fetch) -> None:
        with pytest.raises(ResultExpiredError) as expired:
            fetch(host.origin + "/gone.png?signature=secret")
        assert "secret" not in str(expired.value)
        assert not expired.value.retryable


class TestRedirectsAreFollowedByTheSameRules:
    def test_within_the_trusted_origin_they_are_followed(self, host: ImageHost, fetch: Fetch) -> None:
        host.put("/real.png", BODY)
        host.put("/hop.png", b"", redirect("/real.png", 307))
        assert fetch(host.put("/a.png", b"", redirect(host.origin + "/hop.png", 301))) == BODY

    @pytest.mark.parametrize(
        "location",
        [
            "file:///etc/passwd",
            "http://10.0.0.1/a.png",
            "https://10.0.0.1/a.png",
            "https://169.254.169.254/latest",
            "http://[::1]:1/a.png",
            "http://localhost:1/a.png",
            "https://2130706433/a.png",
            "//[::1]/a.png",
            "http://[broken/a.png",
        ],
    )
    def test_elsewhere_they_are_refused(self, host: ImageHost, fetch: Fetch, location: str) -> None:
        with pytest.raises(RefusedUrlError):
            fetch(host.put("/a.png", b"", *[redirect(location)] * 4))
        assert len(host.requests) == 1

    def test_another_local_server_is_never_asked(
        self, host: ImageHost, other_host: ImageHost, fetch: Fetch
    ) -> None:
        elsewhere = other_host.put("/secret.png", BODY)
        with pytest.raises(RefusedUrlError, match="only https"):
            fetch(host.put("/a.png", b"", redirect(elsewhere)))
        assert other_host.requests == []

    def test_a_loop_ends(self, host: ImageHost, fetch: Fetch) -> None:
        with pytest.raises(DownloadError, match="more than 5 times"):
            fetch(host.put("/a.png", b"", *[redirect("/a.png")] * 20))
        assert len(host.requests) == 6


class TestADownloadIsBounded:
    def test_a_file_beyond_the_limit_is_dropped_on_the_way(self, host: ImageHost, fetch: Fetch) -> None:
        with pytest.raises(DownloadError, match="longer than 1000 bytes") as failed:
            fetch(host.put("/a.png", BODY), max_bytes=1000)
        assert len(host.requests) == 1
        assert not failed.value.retryable

    def test_a_download_that_never_ends_is_ended(self, host: ImageHost, fetch: Fetch) -> None:
        with pytest.raises(DownloadError, match="longer than 0 s"):
            fetch(host.put("/a.png", BODY), total_timeout=0)

    def test_memory_does_not_grow_with_the_file(self, host: ImageHost, fetch: Fetch, tmp_path: Path) -> None:
        size = 48 * 2**20
        block = b"x" * 65536

        def much(handler: Handler, resource: Resource) -> None:
            handler.send_response(200)
            handler.finish_headers(resource, size)
            for _ in range(size // len(block)):
                handler.wfile.write(block)

        url = host.put("/a.png", b"", much)
        with Fetcher(trusted_origin=host.origin, log=logging.getLogger()) as fetcher:
            tracemalloc.start()
            try:
                fetcher.fetch(url, tmp_path / "download", lambda path: None)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        assert (tmp_path / "download").stat().st_size == size
        assert peak < size // 10

    def test_a_full_temporary_folder_is_named_as_the_cause(
        self, host: ImageHost, log: logging.Logger
    ) -> None:
        url = host.put("/a.png", BODY)
        with (
            Fetcher(trusted_origin=host.origin, log=log) as fetcher,
            pytest.raises(StorageError, match=r"temporary folder of this worker: .*No space left"),
        ):
            fetcher.fetch(url, Path("/dev/full"), lambda path: None)


class TestATaskThatIsToldToStopStops:
    def test_a_pause_is_cut_short_and_nothing_more_is_sent(
        self, host: ImageHost, tmp_path: Path, log: logging.Logger
    ) -> None:
        with Fetcher(trusted_origin=host.origin, log=log) as fetcher:

            def stopping(handler: Handler, resource: Resource) -> None:
                fetcher.stop()
                status(429, Retry_After="50")(handler, resource)

            url = host.put("/a.png", BODY, stopping)
            with pytest.raises(DownloadError):
                fetcher.fetch(url, tmp_path / "download", lambda path: None)
        assert len(host.requests) == 1


class TestRequestsCarryNoSecret:
    def test_headers_are_plain(self, host: ImageHost, fetch: Fetch) -> None:
        fetch(host.put("/a.png", picture()))
        headers = {name.lower(): value for name, value in host.requests[0][1].items()}
        assert headers["user-agent"].startswith("airflow-provider-seedream/")
        assert headers["accept-encoding"] == "identity"
        assert headers.keys().isdisjoint({"authorization", "cookie", "referer"})

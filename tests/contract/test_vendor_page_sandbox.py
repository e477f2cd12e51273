"""The vendor's Seedream 4.5 page against the sandbox: its JSON examples, size table, price and codes.

The examples lie in ``examples/`` as they stand on the page. What is hard-coded here was read from the page
too, not from the package.
"""

from __future__ import annotations

import io
import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from PIL import Image

from airflow_provider_seedream.apixo.model import SEEDREAM_4_5
from airflow_provider_seedream.sandbox.checks import read_order
from airflow_provider_seedream.sandbox.server import SandboxServer
from tests.support.vendor_page import example

MODEL = "seedream-4-5"
HEADERS = {"Authorization": "Bearer YOUR_API_KEY"}
PRICE = Decimal("0.035")
SIZES = {
    "1:1": ("2048x2048", "4096x4096"),
    "2:3": ("1664x2496", "3328x4992"),
    "3:2": ("2496x1664", "4992x3328"),
    "3:4": ("1728x2304", "3520x4704"),
    "4:3": ("2304x1728", "4704x3520"),
    "9:16": ("1600x2848", "3040x5504"),
    "16:9": ("2848x1600", "5504x3040"),
    "21:9": ("3136x1344", "6240x2656"),
}
FAIL_CODES = (
    "SensitiveContentDetected",
    "InputOutputSensitiveContentDetected",
    "PromptInvalid",
    "BadRequest",
    "InvalidImageSize",
    "ImageFormatIncorrect",
    "Upload error",
    "RateLimitExceeded",
    "Timeout",
    "StreamError",
    "FinalizeError",
    "Validation error",
    "UpstreamError",
)
SUBMISSIONS = ("submit_quickstart", "submit_text_to_image", "submit_image_to_image", "submit_sequence")


def shape(value: Any) -> Any:
    """Keys and types of a JSON value; a list is as long as it likes."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value).__name__


class Sandbox:
    """The page's curl commands against a sandbox, and its clock."""

    def __init__(self) -> None:
        self.now = 1_767_965_610.929
        self.server = SandboxServer(time_scale=1, clock=lambda: self.now)
        self.http = httpx.Client(headers=HEADERS, trust_env=False, timeout=30)

    def submit(self, body: Any) -> httpx.Response:
        return self.http.post(f"{self.server.base_url}/generateTask/{MODEL}", json=body)

    def accepted(self, body: Any) -> str:
        return str(self.submit(body).json()["data"]["taskId"])

    def status(self, task_id: str, after: float = 0) -> Any:
        self.now += after
        return self.http.get(f"{self.server.base_url}/statusTask/{MODEL}", params={"taskId": task_id}).json()

    def result_urls(self, task_id: str) -> list[str]:
        return list(json.loads(self.status(task_id, after=60)["data"]["resultJson"])["resultUrls"])

    def balance(self) -> Decimal:
        answer = self.http.get(f"{self.server.base_url}/apikeys/current-balance").text
        return Decimal(str(json.loads(answer, parse_float=Decimal)["data"]))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    running = Sandbox()
    with running.server, running.http:
        yield running


def request(prompt: str = "a fox", **fields: Any) -> Any:
    return {"input": {"mode": "text-to-image", "prompt": prompt, "max_images": 1, **fields}}


class TestRequestExamples:
    @pytest.mark.parametrize("name", SUBMISSIONS)
    def test_each_is_accepted_with_the_answer_of_the_page(self, sandbox: Sandbox, name: str) -> None:
        answer = sandbox.submit(example(name))
        assert answer.status_code == 200
        assert shape(answer.json()) == shape(example("submit_response"))
        assert answer.json()["data"]["taskId"].startswith("task_")

    @pytest.mark.parametrize("name", SUBMISSIONS)
    def test_each_delivers_as_many_images_as_it_asks_for_and_costs_their_price(
        self, sandbox: Sandbox, name: str
    ) -> None:
        before, count = sandbox.balance(), example(name)["input"]["max_images"]
        task = sandbox.accepted(example(name))
        assert before - sandbox.balance() == count * PRICE
        assert len(sandbox.result_urls(task)) == count
        assert before - sandbox.balance() == count * PRICE

    def test_the_callback_example_is_right_but_for_its_host(self, sandbox: Sandbox) -> None:
        """The sandbox calls nobody but this machine, and says so; it has no other objection."""
        refused = sandbox.submit(example("submit_callback"))
        assert refused.status_code == 400
        assert "only calls loopback" in refused.json()["data"]["error"]
        local = example("submit_callback") | {"callback_url": "https://localhost:1/webhooks/apixo"}
        assert sandbox.submit(local).status_code == 200


class TestResponseExamples:
    def test_processing(self, sandbox: Sandbox) -> None:
        status = sandbox.status(sandbox.accepted(request()), after=15)
        assert shape(status) == shape(example("status_processing"))
        assert status["data"]["state"] == "processing"

    def test_success(self, sandbox: Sandbox) -> None:
        status, page = (
            sandbox.status(sandbox.accepted(request(max_images=2)), after=60),
            example("status_success"),
        )
        assert shape(status) == shape(page)
        results = [json.loads(body["data"]["resultJson"]) for body in (status, page)]
        assert shape(results[0]) == shape(results[1])
        assert status["data"]["state"] == "success"

    def test_failure_word_for_word(self, sandbox: Sandbox) -> None:
        status = sandbox.status(sandbox.accepted(request("[[fail:SensitiveContentDetected]]")), after=60)
        page = example("status_failed")
        assert shape(status) == shape(page)
        for key in ("state", "failCode", "failMsg"):
            assert status["data"][key] == page["data"][key]

    @pytest.mark.parametrize("code", FAIL_CODES)
    def test_every_fail_code_of_the_page_has_words_of_its_own(self, sandbox: Sandbox, code: str) -> None:
        known, other = (
            sandbox.status(sandbox.accepted(request(f"[[fail:{name}]]")), after=60)["data"]
            for name in (code, "NotOnThePage")
        )
        assert known["failCode"] == code
        assert known["failMsg"] != other["failMsg"]


@contextmanager
def receiver() -> Iterator[tuple[str, queue.Queue[Any]]]:
    """A callback endpoint that answers 200: its URL, and the bodies that it gets."""
    received: queue.Queue[Any] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/webhooks/apixo", received
        server.shutdown()


class TestCallbackExamples:
    @pytest.mark.parametrize("directive", ["", "[[fail:Timeout]]"])
    def test_the_payload_is_that_of_the_page(self, directive: str) -> None:
        with SandboxServer(time_scale=0.001) as server, receiver() as (url, received):
            body = example("submit_callback") | {"callback_url": url}
            body["input"]["prompt"] += directive
            submitted = httpx.post(
                f"{server.base_url}/generateTask/{MODEL}", json=body, headers=HEADERS, trust_env=False
            )
            payload = received.get(timeout=30)
        page = example("callback_success")
        if directive:
            page = {"code": 500, "message": "failed", "data": example("status_failed")["data"]}
        assert shape(payload) == shape(page)
        assert (payload["code"], payload["message"]) == (page["code"], page["message"])
        assert payload["data"]["taskId"] == submitted.json()["data"]["taskId"]


class TestTheSizeTable:
    @pytest.mark.parametrize("ratio", SIZES)
    @pytest.mark.parametrize("resolution", ["2K", "4K"])
    def test_every_entry_is_what_the_sandbox_draws(self, ratio: str, resolution: str) -> None:
        body = json.dumps(request(resolution=resolution, aspect_ratio=ratio)).encode()
        width, height = read_order(body, SEEDREAM_4_5).size
        assert f"{width}x{height}" == SIZES[ratio][resolution == "4K"]

    @pytest.mark.parametrize(
        ("resolution", "ratio"), [("2K", "21:9"), ("2K", "9:16"), ("2K", "1:1"), ("4K", "2:3")]
    )
    def test_real_images_have_these_pixels(self, sandbox: Sandbox, resolution: str, ratio: str) -> None:
        task = sandbox.accepted(request(resolution=resolution, aspect_ratio=ratio))
        with Image.open(
            io.BytesIO(httpx.get(sandbox.result_urls(task)[0], trust_env=False).content)
        ) as image:
            image.load()
            assert "x".join(map(str, image.size)) == SIZES[ratio][resolution == "4K"]

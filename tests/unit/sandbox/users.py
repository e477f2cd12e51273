"""Users of the sandbox, written from the vendor's page, and the clock that they live by."""

from __future__ import annotations

import json
from typing import Any

import httpx

from airflow_provider_seedream.apixo.model import SEEDREAM_4_5
from airflow_provider_seedream.sandbox import tasks
from airflow_provider_seedream.sandbox.checks import read_order
from airflow_provider_seedream.sandbox.directives import Directives
from airflow_provider_seedream.sandbox.server import SandboxServer

MODEL = "seedream-4-5"


class Clock:
    """Epoch seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1_767_965_610.929

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Account:
    """A user of the sandbox with a key."""

    def __init__(self, server: SandboxServer, http: httpx.Client, key: str) -> None:
        self.key = key
        self.server = server
        self.http = http

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A request to the API with this key; headers of the caller come on top."""
        headers = {"Authorization": f"Bearer {self.key}"} | options.pop("headers", {})
        return self.http.request(method, self.server.base_url + path, headers=headers, **options)

    def post(self, body: Any, model: str = MODEL) -> httpx.Response:
        return self.call("POST", f"/generateTask/{model}", json=body)

    def post_raw(self, raw: bytes | str, content_type: str = "application/json") -> httpx.Response:
        return self.call(
            "POST", f"/generateTask/{MODEL}", content=raw, headers={"Content-Type": content_type}
        )

    def submit(self, prompt: str = "a fox in watercolor style", **fields: Any) -> str:
        answer = self.post({"input": text_to_image(prompt, **fields)})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["data"]["taskId"])

    def poll(self, task_id: str, model: str = MODEL) -> httpx.Response:
        return self.call("GET", f"/statusTask/{model}", params={"taskId": task_id})

    def status(self, task_id: str) -> dict[str, Any]:
        data: dict[str, Any] = self.poll(task_id).json()["data"]
        return data

    def urls(self, task_id: str) -> list[str]:
        urls: list[str] = json.loads(self.status(task_id)["resultJson"])["resultUrls"]
        return urls

    def balance(self) -> float:
        return float(self.call("GET", "/apikeys/current-balance").json()["data"])

    def ledger(self) -> dict[str, Any]:
        report: dict[str, Any] = self.control("GET", "/ledger").json()
        return report

    def fault(self, path: str, action: dict[str, Any], **fields: Any) -> httpx.Response:
        return self.control("POST", "/faults", json={"path": path, "action": action, **fields})

    def control(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.http.request(method, f"{self.server.origin}/sandbox{path}", **options)


def text_to_image(prompt: str = "a fox", **fields: Any) -> dict[str, Any]:
    """The least that the page asks for in ``input``."""
    return {"mode": "text-to-image", "prompt": prompt, "max_images": 1, **fields}


def accepted(
    max_images: int = 1, deliver: int | None = None, fail: bool = False, at: float = 0
) -> tasks.Task:
    """A task that was accepted without a server and takes 30 seconds."""
    order = read_order(json.dumps({"input": text_to_image(max_images=max_images)}).encode(), SEEDREAM_4_5)
    directives = Directives(fail="Timeout" if fail else None, deliver=deliver, seconds=30)
    return tasks.accept(order, directives, key="k", origin="http://x", now=at, time_scale=1)


def error_of(answer: httpx.Response, code: int) -> str:
    """The text of a refusal, whose envelope is checked on the way."""
    body = answer.json()
    assert answer.status_code == code, answer.text
    assert body["code"] == code
    assert set(body) == {"code", "message", "data"}
    return str(body["data"]["error"])

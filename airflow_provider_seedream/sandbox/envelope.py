"""The JSON envelope around every answer, and the one exception that carries a refusal to it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse

_MESSAGES: Mapping[int, str] = {
    400: "Invalid request",
    401: "Missing or invalid API key",
    402: "Insufficient balance or quota",
    403: "Key or route cannot access the model, or content is blocked before task creation",
    404: "Model route or task ID was not found",
    429: "Rate limit or concurrency limit reached",
    500: "Server error or streaming finalization error",
    502: "Upstream provider error",
    504: "Upstream timeout",
}
"""The vendor page's table of HTTP errors."""


class Refusal(Exception):  # noqa: N818 - what the API answers, not a fault of this program
    """A request that the API does not accept.

    :param code: HTTP status, repeated as ``code`` in the body.
    :param error: what is wrong, for ``data.error``.
    """

    def __init__(self, code: int, error: str) -> None:
        super().__init__(error)
        self.code = code
        self.error = error


def message_of(code: int) -> str:
    """The vendor's words for an HTTP status; the standard phrase for those that the page does not name."""
    standard = {status.value: status.phrase for status in HTTPStatus}
    return _MESSAGES.get(code) or standard.get(code, "Error")


def success(data: Any) -> JSONResponse:
    """The answer to a request that was accepted."""
    return JSONResponse({"code": 200, "message": "success", "data": data})


def refused(refusal: Refusal, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer to a request that was not."""
    body = {"code": refusal.code, "message": message_of(refusal.code), "data": {"error": refusal.error}}
    return JSONResponse(body, status_code=refusal.code, headers=headers)

"""Makes the JSON envelope around every answer; one exception carries all refusals to it."""

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


class RefusedCall(Exception):  # noqa: N818 - what the API answers, not a fault of this program
    """A request that the API does not accept.

    :param code: HTTP status, repeated as ``code`` in the body.
    :param error: what is wrong, for ``data.error``.
    """

    def __init__(self, code: int, error: str) -> None:
        super().__init__(error)
        self.code = code
        self.error = error


def find_message(code: int) -> str:
    """Return the vendor's words for an HTTP status; the standard phrase where the page names none."""
    standard = {status.value: status.phrase for status in HTTPStatus}
    return _MESSAGES.get(code) or standard.get(code, "Error")


def make_success(data: Any) -> JSONResponse:
    """Return the answer to a request that was accepted."""
    return JSONResponse({"code": 200, "message": "success", "data": data})


def make_refusal(refused: RefusedCall, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the answer to a request that was not."""
    body = {"code": refused.code, "message": find_message(refused.code), "data": {"error": refused.error}}
    return JSONResponse(body, status_code=refused.code, headers=headers)

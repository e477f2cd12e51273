"""Replies of the API, made by hand."""

from __future__ import annotations

import json
from typing import Any

from airflow_provider_seedream.apixo.answers import Reply


def envelope(
    code: int = 200, data: Any = None, message: str = "", status: int | None = None, **headers: str
) -> Reply:
    body = json.dumps({"code": code, "message": message, "data": data}).encode()
    return Reply(code if status is None else status, headers, body)

"""Answers callbacks: whoever has no token that was given out learns nothing and costs next to nothing."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

from starlette.responses import PlainTextResponse, Response
from starlette.websockets import WebSocketClose

from airflow_provider_seedream.callback_endpoint import deliveries
from airflow_provider_seedream.callback_endpoint.body import NotADelivery, check_headers, read_delivery
from airflow_provider_seedream.callback_endpoint.limits import (
    Busy,
    Capacity,
    DatabaseThreads,
    EndpointLimits,
    TokenBucket,
)
from airflow_provider_seedream.callback_endpoint.reports import Reports
from airflow_provider_seedream.callback_endpoint.retries import ResumeRetries
from airflow_provider_seedream.callback_endpoint.standing import Reason, ReceiveResult, RefusedDelivery
from airflow_provider_seedream.callback_endpoint.token_redaction import TOKEN_KEY
from airflow_provider_seedream.callbacks.delivery import Delivery
from airflow_provider_seedream.callbacks.token import CallbackToken

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

RETRY_SECONDS = 30
"""A sender is asked to wait so long before it repeats."""

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
# The rest of a body that was refused is not worth reading.
_CLOSING = _HEADERS | {"Connection": "close"}


class Deliveries(Protocol):
    """The deliveries that Airflow's database knows: the module ``deliveries``. Its functions block."""

    def check(self, token: CallbackToken) -> None:
        """Refuse a token that no delivery can come with."""

    def receive(self, token: CallbackToken, delivery: Delivery, now: float) -> ReceiveResult:
        """Record a delivery, and resume who waits for it."""

    def resume(self, token: CallbackToken, now: float) -> ReceiveResult:
        """Resume who waits for a delivery that was recorded."""


def create_app() -> ASGIApp:
    """Make the application with Airflow's own database behind it."""
    return CallbackApp(deliveries)


class CallbackApp:
    """An ASGI application, which finds the token where ``TokenRedaction`` has put it.

    It answers 200 when a delivery is recorded, one and the same 404 to everything that is no delivery, and
    503 where the database or a limit of this process is in the way, so that the sender repeats.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        limits: EndpointLimits | None = None,
        reports: Reports | None = None,
    ) -> None:
        self._deliveries = deliveries
        self._limits = limits = limits or EndpointLimits()
        self._reports = reports or Reports()
        self._bucket = TokenBucket(limits.per_second, limits.burst)
        self._bodies = Capacity(limits.bodies)
        self._threads = DatabaseThreads(limits.threads, limits.waiting, limits.database_seconds)
        # Tasks that are tried again take no room from requests.
        self._retry_threads = DatabaseThreads(limits.retry_threads, limits.retries, limits.database_seconds)
        self._retries = ResumeRetries(self._retry, limits.retries)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        # uvicorn logs an error if it gets any other refusal of a WebSocket.
        answer = WebSocketClose() if scope["type"] == "websocket" else await self._answer(scope, receive)
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        token = _find_token(scope)
        if token is None:
            return self._refuse(Reason.TOKEN)
        try:
            self._bucket.check()
            await self._threads.run(partial(self._deliveries.check, token))
            delivery = await self._read_delivery(scope, receive)
            result = await self._threads.run(partial(self._deliveries.receive, token, delivery, time.time()))
        except (RefusedDelivery, NotADelivery) as error:
            self._bucket.count()
            return self._refuse(error.reason if isinstance(error, RefusedDelivery) else Reason.BODY)
        except Exception as error:  # noqa: BLE001 - an error that got out would be logged with every request
            return self._ask_to_repeat(error, token)
        self._follow_up(token, delivery, result)
        return PlainTextResponse("accepted\n", headers=_HEADERS)

    def _follow_up(self, token: CallbackToken, delivery: Delivery, result: ReceiveResult) -> None:
        if result.repeated or not delivery.is_final:
            self._bucket.count()
        self._reports.log_delivery(token, delivery, result)
        if result.again_at is not None and not self._retries.plan(token, result.again_at):
            self._reports.log_left_to_polling()

    async def _read_delivery(self, scope: Scope, receive: Receive) -> Delivery:
        most, seconds = self._limits.body_bytes, self._limits.body_seconds
        check_headers(scope["headers"], most)
        with self._bodies.hold():
            return await read_delivery(receive, most=most, seconds=seconds)

    def _refuse(self, reason: Reason) -> Response:
        self._reports.log_refusal(reason)
        return PlainTextResponse("not found\n", 404, _CLOSING)

    def _ask_to_repeat(self, error: Exception, token: CallbackToken) -> Response:
        self._reports.log_refusal(Reason.BUSY if isinstance(error, Busy) else Reason.DATABASE)
        self._reports.log_not_recorded(error, token)
        return PlainTextResponse("try again later\n", 503, _CLOSING | {"Retry-After": str(RETRY_SECONDS)})

    async def _retry(self, token: CallbackToken) -> ReceiveResult | None:
        """Resume whoever has become ready; ``None`` if it is not known what there is left to do."""
        try:
            result = await self._retry_threads.run(partial(self._deliveries.resume, token, time.time()))
        except RefusedDelivery:
            return ReceiveResult()
        except Exception as error:  # noqa: BLE001 - nobody would see it; the next attempt may do better
            self._reports.log_not_resumed(error, token)
            return None
        if result.resumed:
            self._reports.log_resumed(token, result)
        return result


def _find_token(scope: Scope) -> CallbackToken | None:
    return CallbackToken.from_text(scope[TOKEN_KEY]) if scope["method"] == "POST" else None

"""Where APIXO calls: whoever has no token that was given out learns nothing and costs next to nothing."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

from starlette.responses import PlainTextResponse, Response
from starlette.websockets import WebSocketClose

from airflow_provider_seedream.callback_endpoint import deliveries
from airflow_provider_seedream.callback_endpoint.body import NotADelivery, check_headers, read_delivery
from airflow_provider_seedream.callback_endpoint.limits import Busy, Capacity, DeskThreads, Limits, Rate
from airflow_provider_seedream.callback_endpoint.reports import Reports
from airflow_provider_seedream.callback_endpoint.retries import ResumeRetries
from airflow_provider_seedream.callback_endpoint.standing import Reason, ReceiveResult, Refused
from airflow_provider_seedream.callback_endpoint.token_redaction import TOKEN_KEY
from airflow_provider_seedream.callbacks.delivery import Delivery
from airflow_provider_seedream.callbacks.token import CallbackToken

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

RETRY_SECONDS = 30
"""What a sender is asked to wait before it repeats."""

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
# The rest of a body that was refused is not worth reading.
_CLOSING = _HEADERS | {"Connection": "close"}


class Desk(Protocol):
    """What is done with a callback in Airflow's database; see ``deliveries``. Its functions block."""

    def check(self, token: CallbackToken) -> None:
        """Look whether a token is worth anything."""

    def receive(self, token: CallbackToken, delivery: Delivery, now: float) -> ReceiveResult:
        """Record a delivery, and resume who waits for it."""

    def resume(self, token: CallbackToken, now: float) -> ReceiveResult:
        """Resume who waits for a delivery that was recorded."""


def create_app() -> ASGIApp:
    """The application with Airflow's own database behind it."""
    return CallbackApp(deliveries)


class CallbackApp:
    """An ASGI application; the token is to be found where ``TokenRedaction`` has put it.

    It answers 200 when a delivery is recorded, one and the same 404 to everything that is no delivery, and
    503 where the database or a limit of this process is in the way, so that the sender repeats.
    """

    def __init__(self, desk: Desk, limits: Limits | None = None, reports: Reports | None = None) -> None:
        self._desk = desk
        self._limits = limits = limits or Limits()
        self._reports = reports or Reports()
        self._rate = Rate(limits.per_second, limits.burst)
        self._bodies = Capacity(limits.bodies)
        self._threads = DeskThreads(limits.threads, limits.waiting, limits.desk_seconds)
        # Tasks that are tried again take no room from requests.
        self._later_threads = DeskThreads(limits.later_threads, limits.later, limits.desk_seconds)
        self._later = ResumeRetries(self._resume_later, limits.later)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        # uvicorn logs an error if it gets any other refusal of a WebSocket.
        answer = WebSocketClose() if scope["type"] == "websocket" else await self._answer(scope, receive)
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        token = _token_of(scope)
        if token is None:
            return self._refusal(Reason.TOKEN)
        try:
            self._rate.check()
            await self._threads.run(partial(self._desk.check, token))
            delivery = await self._delivery(scope, receive)
            receipt = await self._threads.run(partial(self._desk.receive, token, delivery, time.time()))
        except (Refused, NotADelivery) as error:
            self._rate.count()
            return self._refusal(error.reason if isinstance(error, Refused) else Reason.BODY)
        except Exception as error:  # noqa: BLE001 - an error that got out would be logged with every request
            return self._trouble(error, token)
        self._accepted(token, delivery, receipt)
        return PlainTextResponse("accepted\n", headers=_HEADERS)

    def _accepted(self, token: CallbackToken, delivery: Delivery, receipt: ReceiveResult) -> None:
        if receipt.repeated or not delivery.is_final:
            self._rate.count()
        self._reports.accepted(token, delivery, receipt)
        if receipt.again_at is not None and not self._later.plan(token, receipt.again_at):
            self._reports.left_to_polling()

    async def _delivery(self, scope: Scope, receive: Receive) -> Delivery:
        most, seconds = self._limits.body_bytes, self._limits.body_seconds
        check_headers(scope["headers"], most)
        with self._bodies.one():
            return await read_delivery(receive, most=most, seconds=seconds)

    def _refusal(self, reason: Reason) -> Response:
        self._reports.refused(reason)
        return PlainTextResponse("not found\n", 404, _CLOSING)

    def _trouble(self, error: Exception, token: CallbackToken) -> Response:
        self._reports.refused(Reason.BUSY if isinstance(error, Busy) else Reason.DATABASE)
        self._reports.not_recorded(error, token)
        return PlainTextResponse("try again later\n", 503, _CLOSING | {"Retry-After": str(RETRY_SECONDS)})

    async def _resume_later(self, token: CallbackToken) -> ReceiveResult | None:
        """``None`` if it is not known what there is left to do."""
        try:
            receipt = await self._later_threads.run(partial(self._desk.resume, token, time.time()))
        except Refused:
            return ReceiveResult()
        except Exception as error:  # noqa: BLE001 - nobody would see it; the next attempt may do better
            self._reports.not_resumed(error, token)
            return None
        if receipt.resumed:
            self._reports.resumed_later(token, receipt)
        return receipt


def _token_of(scope: Scope) -> CallbackToken | None:
    return CallbackToken.from_text(scope[TOKEN_KEY]) if scope["method"] == "POST" else None

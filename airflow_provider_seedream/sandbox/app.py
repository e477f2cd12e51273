"""The routes: APIXO's own under ``/api/v1``, images under ``/results``, controls under ``/sandbox``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from airflow_provider_seedream.apixo.model import MODELS, Model
from airflow_provider_seedream.sandbox import directives, ranges, tasks
from airflow_provider_seedream.sandbox.callbacks import Courier
from airflow_provider_seedream.sandbox.checks import read_order
from airflow_provider_seedream.sandbox.directives import Directives
from airflow_provider_seedream.sandbox.envelope import Refusal, refused, success
from airflow_provider_seedream.sandbox.faults import API, FaultMiddleware, Faults, read_fault
from airflow_provider_seedream.sandbox.image_cache import Gallery
from airflow_provider_seedream.sandbox.ledger import Ledger
from airflow_provider_seedream.sandbox.traffic import CONTROL, Traffic, TrafficMiddleware

BODY_LIMIT = 1024**2
"""Bytes of a request body; the page names no limit, a proxy in front of it would have one."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a sandbox behaves.

    :param time_scale: factor on generation times and callback delays.
    :param balance: USD that every account starts with.
    :param defaults: what becomes of tasks whose prompt says nothing else.
    """

    time_scale: float = 0.1
    balance: Decimal = Decimal(100)
    defaults: Directives = field(default_factory=Directives)


class Sandbox:
    """All state of a sandbox; it changes on the event loop only.

    :param clock: epoch seconds; tests put their own in place of the wall clock.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.faults = Faults()
        self.traffic = Traffic()
        self.gallery = Gallery()
        self.courier = Courier(clock, settings.time_scale)
        self.ledger = Ledger(settings.balance)

    def reset(self) -> None:
        """Start afresh: no accounts, tasks, faults, requests, images or deliveries."""
        self.ledger = Ledger(self.settings.balance)
        for part in (self.faults, self.traffic, self.gallery, self.courier):
            part.clear()

    def close(self) -> None:
        """Leave no thread and no delivery behind."""
        self.courier.clear()
        self.gallery.close()


def create_app(sandbox: Sandbox) -> FastAPI:
    """A sandbox as an ASGI application; who serves it closes the sandbox in the end."""
    app = FastAPI(title="APIXO sandbox", openapi_url=None, redirect_slashes=False)
    app.state.sandbox = sandbox
    for router in (_api, _results, _controls):
        app.include_router(router)
    app.add_exception_handler(Refusal, _on_refusal)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_middleware(FaultMiddleware, faults=sandbox.faults)
    app.add_middleware(TrafficMiddleware, traffic=sandbox.traffic, clock=sandbox.clock)
    return app


async def _on_refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return refused(error)


async def _on_http_exception(_: Request, error: Exception) -> Response:
    """Unknown paths and methods, in the envelope of every other refusal."""
    assert isinstance(error, HTTPException)
    return refused(Refusal(error.status_code, error.detail), error.headers)


# --- what routes have in common ----------------------------------------------------------------------


def _sandbox(request: Request) -> Sandbox:
    sandbox: Sandbox = request.app.state.sandbox
    return sandbox


def _key(request: Request) -> str:
    """The API key of a request.

    :raises Refusal: 401 where there is none, or the one that stands for a wrong key.
    """
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or key.strip() in ("", "invalid"):
        raise Refusal(401, "Authorization: Bearer YOUR_API_KEY is missing, or the key is invalid")
    return key.strip()


def _model(model: str) -> Model:
    """The model that the path names.

    :raises Refusal: 404 where there is none.
    """
    if model not in MODELS:
        raise Refusal(404, f"Unknown model; known: {', '.join(MODELS)}")
    return MODELS[model]


async def _body(request: Request) -> bytes:
    """The request body.

    :raises Refusal: 413 as soon as it is longer than the limit, 400 where it breaks off.
    """
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_LIMIT:
                raise Refusal(413, f"The body is longer than {BODY_LIMIT} bytes")
    except ClientDisconnect:
        raise Refusal(400, "The body broke off") from None
    return bytes(body)


def _origin(request: Request) -> str:
    """Scheme, host and port by which the client reached the server, as it stands in its Host header."""
    host, port = request.scope["server"]
    return f"http://{request.headers.get('host', f'{host}:{port}')}"


TheSandbox = Annotated[Sandbox, Depends(_sandbox)]
TheKey = Annotated[str, Depends(_key)]
TheModel = Annotated[Model, Depends(_model)]

# --- APIXO -------------------------------------------------------------------------------------------

_api = APIRouter(prefix=API)


@_api.post("/generateTask/{model}")
async def generate(request: Request, key: TheKey, model: TheModel, sandbox: TheSandbox) -> JSONResponse:
    """Accept a task: checked, charged, and from then on finished by the clock alone."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(400, "Content-Type must be application/json")
    order = read_order(await _body(request), model)
    task = tasks.accept(
        order,
        directives.read(order.prompt, sandbox.settings.defaults),
        key=key,
        origin=_origin(request),
        now=sandbox.clock(),
        time_scale=sandbox.settings.time_scale,
    )
    entry = sandbox.ledger.book(task)
    if order.callback_url:
        sandbox.courier.schedule(entry, order.callback_url)
    return success({"taskId": task.id})


@_api.get("/statusTask/{model}")
async def status(
    request: Request,
    key: TheKey,
    model: TheModel,
    sandbox: TheSandbox,
    task_id: Annotated[str, Query(alias="taskId")] = "",
) -> JSONResponse:
    """Where a task stands."""
    if not task_id:
        raise Refusal(400, "Missing required parameter: taskId")
    now = sandbox.clock()
    return success(tasks.status(sandbox.ledger.poll(key, model.id, task_id, now), now, _origin(request)))


@_api.get("/apikeys/current-balance")
async def balance(key: TheKey, sandbox: TheSandbox) -> JSONResponse:
    """USD left on the key."""
    return success(float(sandbox.ledger.account(key, sandbox.clock()).balance))


# --- images ------------------------------------------------------------------------------------------

_results = APIRouter()


@_results.api_route("/results/{task_id}/{token}/{name}", methods=["GET", "HEAD"])
async def result(request: Request, task_id: str, token: str, name: str, sandbox: TheSandbox) -> Response:
    """One image, for everybody who knows its address."""
    task, now = sandbox.ledger.find(task_id), sandbox.clock()
    numbers = {f"{n}.png": n for n in range(1, task.will_deliver + 1)} if task else {}
    if task is None or token != task.token or name not in numbers or now < task.completes_at:
        raise Refusal(404, "No such image")
    if tasks.has_expired(task, now):
        raise Refusal(410, "This result URL has expired")
    data = await sandbox.gallery.image(task, numbers[name])
    return ranges.respond(data, request.headers, "image/png")


# --- controls ----------------------------------------------------------------------------------------

_controls = APIRouter(prefix=CONTROL)


@_controls.get("/ledger")
async def ledger(sandbox: TheSandbox) -> JSONResponse:
    """All accounts, tasks and requests, and what was drawn."""
    report = sandbox.ledger.report(sandbox.clock())
    return JSONResponse({**report, "requests": sandbox.traffic.report(), "images": sandbox.gallery.report()})


@_controls.post("/faults")
async def add_fault(request: Request, sandbox: TheSandbox) -> JSONResponse:
    """Switch a fault on."""
    sandbox.faults.add(read_fault(await _body(request)))
    return JSONResponse({"faults": sandbox.faults.report()})


@_controls.delete("/faults")
async def clear_faults(sandbox: TheSandbox) -> JSONResponse:
    """Switch all faults off."""
    sandbox.faults.clear()
    return JSONResponse({"faults": []})


@_controls.post("/callbacks")
async def call_back(sandbox: TheSandbox, task_id: Annotated[str, Query(alias="taskId")] = "") -> JSONResponse:
    """Deliver the callback of a task that has ended, now, whatever was delivered before."""
    entry, url = sandbox.ledger.called(task_id, sandbox.clock())
    return JSONResponse(await sandbox.courier.attempt(entry, url))


@_controls.post("/reset")
async def reset(sandbox: TheSandbox) -> JSONResponse:
    """Start afresh."""
    sandbox.reset()
    return JSONResponse({"reset": True})

"""Routes requests: APIXO's own under ``/api/v1``, images under ``/results``, controls under ``/sandbox``."""

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
from airflow_provider_seedream.sandbox import ranges, tasks
from airflow_provider_seedream.sandbox.callbacks import Courier
from airflow_provider_seedream.sandbox.checks import read_order
from airflow_provider_seedream.sandbox.directives import Directives, read_directives
from airflow_provider_seedream.sandbox.envelope import RefusedCall, make_refusal, make_success
from airflow_provider_seedream.sandbox.faults import API, FaultMiddleware, Faults, read_fault
from airflow_provider_seedream.sandbox.image_cache import ImageCache
from airflow_provider_seedream.sandbox.ledger import Ledger
from airflow_provider_seedream.sandbox.traffic import CONTROL, Traffic, TrafficMiddleware

BODY_LIMIT = 1024**2
"""Bytes of a request body; the page names no limit, a proxy in front of it would have one."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Settings:
    """The behaviour of a sandbox.

    :param time_scale: factor on generation times and callback delays.
    :param balance: USD that every account starts with.
    :param defaults: what becomes of tasks whose prompt says nothing else.
    """

    time_scale: float = 0.1
    balance: Decimal = Decimal(100)
    defaults: Directives = field(default_factory=Directives)


class Sandbox:
    """The state of a sandbox; it changes on the event loop only.

    :param clock: epoch seconds; tests put their own in place of the wall clock.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.faults = Faults()
        self.traffic = Traffic()
        self.images = ImageCache()
        self.courier = Courier(clock, settings.time_scale)
        self.ledger = Ledger(settings.balance)

    def reset(self) -> None:
        """Start afresh: no accounts, tasks, faults, requests, images or deliveries."""
        self.ledger = Ledger(self.settings.balance)
        for part in (self.faults, self.traffic, self.images, self.courier):
            part.clear()

    def close(self) -> None:
        """Leave no thread and no delivery behind."""
        self.courier.clear()
        self.images.close()


def create_app(sandbox: Sandbox) -> FastAPI:
    """Return a sandbox as an ASGI application; who serves it closes the sandbox in the end."""
    app = FastAPI(title="APIXO sandbox", openapi_url=None, redirect_slashes=False)
    app.state.sandbox = sandbox
    for router in (_api, _results, _controls):
        app.include_router(router)
    app.add_exception_handler(RefusedCall, _answer_refused_call)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_middleware(FaultMiddleware, faults=sandbox.faults)
    app.add_middleware(TrafficMiddleware, traffic=sandbox.traffic, clock=sandbox.clock)
    return app


async def _answer_refused_call(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedCall)
    return make_refusal(error)


async def _answer_http_exception(_: Request, error: Exception) -> Response:
    """Answer to unknown paths and methods, in the envelope of every other refusal."""
    assert isinstance(error, HTTPException)
    return make_refusal(RefusedCall(error.status_code, error.detail), error.headers)


# --- what routes have in common ----------------------------------------------------------------------


def _get_sandbox(request: Request) -> Sandbox:
    sandbox: Sandbox = request.app.state.sandbox
    return sandbox


def _read_key(request: Request) -> str:
    """Return the API key of a request.

    :raises RefusedCall: 401 where there is none, or the one that stands for a wrong key.
    """
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or key.strip() in ("", "invalid"):
        raise RefusedCall(401, "Authorization: Bearer YOUR_API_KEY is missing, or the key is invalid")
    return key.strip()


def _find_model(model: str) -> Model:
    """Return the model that the path names.

    :raises RefusedCall: 404 where there is none.
    """
    if model not in MODELS:
        raise RefusedCall(404, f"Unknown model; known: {', '.join(MODELS)}")
    return MODELS[model]


async def _read_body(request: Request) -> bytes:
    """Read the request body.

    :raises RefusedCall: 413 as soon as it is longer than the limit, 400 where it breaks off.
    """
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_LIMIT:
                raise RefusedCall(413, f"The body is longer than {BODY_LIMIT} bytes")
    except ClientDisconnect:
        raise RefusedCall(400, "The body broke off") from None
    return bytes(body)


def _read_origin(request: Request) -> str:
    """Return scheme, host and port by which the client reached the server, from its Host header."""
    host, port = request.scope["server"]
    return f"http://{request.headers.get('host', f'{host}:{port}')}"


TheSandbox = Annotated[Sandbox, Depends(_get_sandbox)]
TheKey = Annotated[str, Depends(_read_key)]
TheModel = Annotated[Model, Depends(_find_model)]

# --- APIXO -------------------------------------------------------------------------------------------

_api = APIRouter(prefix=API)


@_api.post("/generateTask/{model}")
async def generate(request: Request, key: TheKey, model: TheModel, sandbox: TheSandbox) -> JSONResponse:
    """Accept a task: checked, charged, and from then on finished by the clock alone."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedCall(400, "Content-Type must be application/json")
    order = read_order(await _read_body(request), model)
    task = tasks.accept(
        order,
        read_directives(order.prompt, sandbox.settings.defaults),
        key=key,
        origin=_read_origin(request),
        now=sandbox.clock(),
        time_scale=sandbox.settings.time_scale,
    )
    entry = sandbox.ledger.book(task)
    if order.callback_url:
        sandbox.courier.schedule(entry, order.callback_url)
    return make_success({"taskId": task.id})


@_api.get("/statusTask/{model}")
async def show_status(
    request: Request,
    key: TheKey,
    model: TheModel,
    sandbox: TheSandbox,
    task_id: Annotated[str, Query(alias="taskId")] = "",
) -> JSONResponse:
    """Tell the state of a task, and its result."""
    if not task_id:
        raise RefusedCall(400, "Missing required parameter: taskId")
    now = sandbox.clock()
    task = sandbox.ledger.poll(key, model.id, task_id, now)
    return make_success(tasks.make_status(task, now, _read_origin(request)))


@_api.get("/apikeys/current-balance")
async def show_balance(key: TheKey, sandbox: TheSandbox) -> JSONResponse:
    """Tell the USD left on the key."""
    return make_success(float(sandbox.ledger.open_account(key, sandbox.clock()).balance))


# --- images ------------------------------------------------------------------------------------------

_results = APIRouter()


@_results.api_route("/results/{task_id}/{token}/{name}", methods=["GET", "HEAD"])
async def show_image(request: Request, task_id: str, token: str, name: str, sandbox: TheSandbox) -> Response:
    """Send one image, to everybody who knows its address."""
    task, now = sandbox.ledger.find_task(task_id), sandbox.clock()
    numbers = {f"{n}.png": n for n in range(1, task.will_deliver + 1)} if task else {}
    if task is None or token != task.token or name not in numbers or now < task.completes_at:
        raise RefusedCall(404, "No such image")
    if tasks.has_expired(task, now):
        raise RefusedCall(410, "This result URL has expired")
    data = await sandbox.images.get_image(task, numbers[name])
    return ranges.respond(data, request.headers, "image/png")


# --- controls ----------------------------------------------------------------------------------------

_controls = APIRouter(prefix=CONTROL)


@_controls.get("/ledger")
async def show_ledger(sandbox: TheSandbox) -> JSONResponse:
    """Report all accounts, tasks and requests, and what was drawn."""
    report = sandbox.ledger.report(sandbox.clock())
    return JSONResponse({**report, "requests": sandbox.traffic.report(), "images": sandbox.images.report()})


@_controls.post("/faults")
async def add_fault(request: Request, sandbox: TheSandbox) -> JSONResponse:
    """Switch a fault on."""
    sandbox.faults.add(read_fault(await _read_body(request)))
    return JSONResponse({"faults": sandbox.faults.report()})


@_controls.delete("/faults")
async def clear_faults(sandbox: TheSandbox) -> JSONResponse:
    """Switch all faults off."""
    sandbox.faults.clear()
    return JSONResponse({"faults": []})


@_controls.post("/callbacks")
async def deliver_callback(
    sandbox: TheSandbox, task_id: Annotated[str, Query(alias="taskId")] = ""
) -> JSONResponse:
    """Deliver the callback of a task that has ended, now, whatever was delivered before."""
    entry, url = sandbox.ledger.find_callback(task_id, sandbox.clock())
    return JSONResponse(await sandbox.courier.deliver_once(entry, url))


@_controls.post("/reset")
async def reset(sandbox: TheSandbox) -> JSONResponse:
    """Start afresh."""
    sandbox.reset()
    return JSONResponse({"reset": True})

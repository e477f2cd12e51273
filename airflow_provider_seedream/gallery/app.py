"""The gallery's application: its routes, its static files, and what it answers to errors."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException

from airflow_provider_seedream.gallery import rendering
from airflow_provider_seedream.gallery.pages import browse_routes, dag_routes, get_root
from airflow_provider_seedream.gallery.storage_threads import StorageThreads
from airflow_provider_seedream.gallery.thumbnails import Thumbnails
from airflow_provider_seedream.gallery.verified_images import ImageError
from airflow_provider_seedream.gallery.view_models import MessageView

STATIC_FOLDER = Path(__file__).parent / "static"

_PROBLEMS = {
    401: ("You are not logged in", "Log in to Airflow, then open this page again."),
    403: ("You may not see these images", "They belong to a DAG that your user may not read."),
    404: ("There is nothing here", "The address is wrong, or what it led to was deleted."),
}


def create_app() -> FastAPI:
    """Make the application that Airflow mounts."""
    app = FastAPI(title="Seedream gallery", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.threads = StorageThreads()
    app.state.thumbnails = Thumbnails(app.state.threads)
    app.include_router(browse_routes)
    app.include_router(dag_routes)
    app.mount("/static", StaticFiles(directory=STATIC_FOLDER), name="static")
    app.add_exception_handler(StarletteHTTPException, _answer_refusal)
    app.add_exception_handler(RequestValidationError, _answer_bad_address)
    app.add_exception_handler(ImageError, _answer_image_error)
    app.add_exception_handler(Exception, _answer_fault)
    return app


async def _answer_refusal(request: Request, error: Exception) -> Response:
    """Answer with a page, or with a line where an image was asked for."""
    assert isinstance(error, StarletteHTTPException)
    title, text = _PROBLEMS.get(error.status_code, ("This page cannot be shown", ""))
    if error.status_code not in (401, 403) and error.detail:
        text = str(error.detail)
    if request.url.path.endswith(("/thumbnail", "/file")):
        return PlainTextResponse(text, error.status_code, error.headers)
    view = MessageView(root=get_root(request), title=title, text=text)
    return HTMLResponse(rendering.render_message(view), error.status_code, error.headers)


async def _answer_bad_address(request: Request, error: Exception) -> Response:
    return await _answer_refusal(
        request, HTTPException(422, "A part of this page's address is too long or no number.")
    )


async def _answer_fault(request: Request, error: Exception) -> Response:
    text = "Something went wrong that should not have; the log of the api-server says what."
    return await _answer_refusal(request, HTTPException(500, text))


async def _answer_image_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ImageError)
    return PlainTextResponse(str(error), error.status)

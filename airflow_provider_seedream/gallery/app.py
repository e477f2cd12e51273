"""The gallery's addresses: every request is checked, and only what a task has saved is shown."""

from __future__ import annotations

from datetime import date
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlencode

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.utils.session import create_session
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException

from airflow_provider_seedream.gallery import queries, rendering
from airflow_provider_seedream.gallery.authorization import readable, requires_dag_of_path
from airflow_provider_seedream.gallery.security_headers import FILE_POLICY
from airflow_provider_seedream.gallery.storage_threads import StorageReaders
from airflow_provider_seedream.gallery.thumbnails import Thumbnails, make_thumbnail
from airflow_provider_seedream.gallery.verified_images import (
    PictureError,
    find_image,
    open_indexed,
    read_saved,
)
from airflow_provider_seedream.gallery.view_models import Filters, GalleryView, ImageView, MessageView
from airflow_provider_seedream.storage.index import IndexedImage, IndexEntry
from airflow_provider_seedream.urls import MOUNT, TaskAddress, make_run_path

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

STATIC_FOLDER = Path(__file__).parent / "static"
MOST_CHARACTERS = 200
"""Longest words that are looked for in prompts."""

_LARGEST = 2**31 - 1
_BLOCK_BYTES = 256 * 1024
_FILE_SECONDS = 30.0
"""A person who has asked for one whole image waits longer than a page with its thumbnails."""

_NO_IMAGE = "This task has saved no such image; perhaps it was cleared and run again."
_CUT_SHORT = "The search has not looked at everything yet: go on with Older."
_PROBLEMS = {
    401: ("You are not logged in", "Log in to Airflow, then open this page again."),
    403: ("You may not see these images", "They belong to a DAG that your user may not read."),
    404: ("There is nothing here", "The address is wrong, or what it led to was deleted."),
}


# --- what every route needs --------------------------------------------------------------------------


def _task_of_path(
    dag_id: str, run_id: str, task_id: str, map_index: Annotated[int, PathParameter(ge=-1, le=_LARGEST)]
) -> TaskAddress:
    return TaskAddress(dag_id, run_id, task_id, map_index)


def _no_wildcard(dag_id: str) -> None:
    # Airflow's check takes this for "any DAG".
    if dag_id == "~":
        raise HTTPException(404)


def _filters_of_query(
    dag_id: str | None = None,
    text: Annotated[str, Query(max_length=MOST_CHARACTERS)] = "",
    since: str | None = None,
    until: str | None = None,
) -> Filters:
    # An empty field of a form comes as an empty text.
    return Filters(dag_id=dag_id or None, text=text.strip(), since=_day(since), until=_day(until))


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise HTTPException(400, f"{text!r} is no day; write it as 2026-01-31.") from None


def _cursor_of_query(cursor: str | None = None) -> queries.Cursor | None:
    try:
        return queries.Cursor.from_text(cursor) if cursor else None
    except ValueError:
        raise HTTPException(400, "This page's address is broken; go back to the newest images.") from None


TaskDep = Annotated[TaskAddress, Depends(_task_of_path)]
FiltersDep = Annotated[Filters, Depends(_filters_of_query)]
CursorDep = Annotated["queries.Cursor | None", Depends(_cursor_of_query)]

browse_routes = APIRouter(default_response_class=HTMLResponse)
dag_routes = APIRouter(
    prefix="/dags/{dag_id}/runs/{run_id}",
    dependencies=[Depends(_no_wildcard), Depends(requires_dag_of_path)],
    default_response_class=HTMLResponse,
)
_IMAGE = "/tasks/{task_id}/{map_index}/images/{index}"


# --- pages of tiles ----------------------------------------------------------------------------------


@browse_routes.get("/")
def browse(request: Request, user: GetUserDep, filters: FiltersDep, cursor: CursorDep) -> str:
    """The latest images of all DAGs that the reader may read."""
    # Airflow's checks take a database connection each: none may be held meanwhile.
    with create_session(scoped=False) as session:
        known = queries.dag_ids(session)
    dag_ids = readable(known, request, user)
    with create_session(scoped=False) as session:
        found = queries.read_page(session, queries.Scope(dag_ids=dag_ids, filters=filters), cursor)
    return _gallery(request, "/", found, filters=filters, dag_ids=sorted(dag_ids))


@dag_routes.get("")
def dag_run(request: Request, dag_id: str, run_id: str, session: SessionDep, cursor: CursorDep) -> str:
    """The images of a DAG run."""
    found = queries.read_page(session, queries.Scope(dag_ids=frozenset([dag_id]), run_id=run_id), cursor)
    return _gallery(request, make_run_path(dag_id, run_id), found, scope=TaskAddress(dag_id, run_id, ""))


@dag_routes.get("/tasks/{task_id}/{map_index}")
def task_instance(
    request: Request,
    dag_id: str,
    run_id: str,
    task_id: str,
    map_index: str,
    session: SessionDep,
    cursor: CursorDep,
) -> str:
    """The images of a task instance; of all its map indexes, where Airflow's page names none."""
    task = TaskAddress(dag_id, run_id, task_id, _map_index(map_index))
    scope = queries.Scope(
        dag_ids=frozenset([dag_id]),
        run_id=run_id,
        task_id=task_id,
        map_index=task.map_index if task.map_index >= 0 else None,
    )
    return _gallery(request, task.path, queries.read_page(session, scope, cursor), scope=task)


def _map_index(text: str) -> int:
    """What a path says; -1 for anything that is no index."""
    return min(int(text), _LARGEST) if text.isdecimal() and len(text) < 20 else -1


def _gallery(request: Request, path: str, found: queries.Page, **view: Any) -> str:
    """Draw a page of tiles whose address, below the mount point, is a path."""
    query = {name: value for name, value in request.query_params.items() if name != "cursor"}
    older = {**query, "cursor": found.older.to_text()} if found.older else None
    root = _root(request)
    return rendering.gallery(
        GalleryView(
            root=root,
            airflow_root=root.removesuffix(MOUNT),
            tiles=found.tiles,
            older=_with_query(path, older) if older else None,
            newest=_with_query(path, query) if "cursor" in request.query_params else None,
            notice=_CUT_SHORT if found.cut_short else None,
            **view,
        )
    )


def _with_query(path: str, query: dict[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _root(request: Request) -> str:
    """The path of the mount point, that of ``[api] base_url`` included."""
    return str(request.scope.get("root_path", ""))


# --- one image ---------------------------------------------------------------------------------------


@dag_routes.get(_IMAGE)
async def image_page(request: Request, task: TaskDep, index: int) -> str:
    """One image with its manifest."""
    entry, image = await _lookup(task, index)
    indexes = [one.index for one in entry.images]
    place = indexes.index(image.index)
    root = _root(request)
    view = partial(
        ImageView,
        root=root,
        airflow_root=root.removesuffix(MOUNT),
        task=task,
        index=index,
        of=len(indexes),
        previous=indexes[place - 1] if place else None,
        next=indexes[place + 1] if place + 1 < len(indexes) else None,
    )
    try:
        manifest = await _readers(request).run(entry.destination, partial(read_saved, entry))
        found = view(manifest=manifest, image=find_image(manifest, index))
    except PictureError as error:
        found = view(problem=str(error))
    return await run_in_threadpool(rendering.image, found)


@dag_routes.get(_IMAGE + "/thumbnail", response_class=Response)
async def thumbnail(request: Request, task: TaskDep, index: int) -> Response:
    """A small WebP of one image, made once."""
    entry, image = await _lookup(task, index)
    etag = f'"{image.sha256}-small"'
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers={"ETag": etag})
    # Whoever names another manifest or task must not be served what was made for this one.
    key = (f"{entry.destination}/{image.name}", f"{image.sha256} {entry.manifest} {entry.seedream_task_id}")
    small = await _thumbnails(request).get(key, partial(_small, entry, image))
    return Response(small, media_type="image/webp", headers={"ETag": etag, **_FILE_HEADERS})


@dag_routes.get(_IMAGE + "/file", response_class=Response)
async def file(request: Request, task: TaskDep, index: int) -> Response:
    """One image as it was saved, verified before its first byte is sent."""
    entry, image = await _lookup(task, index)
    original = await _readers(request).run(
        entry.destination, partial(open_indexed, entry, image), _FILE_SECONDS
    )
    name = quote(image.name.rpartition("/")[2])
    return FileStream(
        original.file,
        media_type=original.media_type,
        headers={
            "Content-Length": str(original.bytes),
            "Content-Disposition": f"inline; filename*=UTF-8''{name}",
            **_FILE_HEADERS,
        },
    )


_FILE_HEADERS = {
    "Content-Security-Policy": FILE_POLICY,
    # Airflow 3.1 and 3.2 would compress images, on the event loop.
    "Content-Encoding": "identity",
}


class FileStream(StreamingResponse):
    """Sends a file, and closes it also when the reader goes away in the middle."""

    def __init__(self, file: IO[bytes], **options: Any) -> None:
        super().__init__(iter(partial(file.read, _BLOCK_BYTES), b""), **options)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()


async def _lookup(task: TaskAddress, index: int) -> tuple[IndexEntry, IndexedImage]:
    """What a task has saved under an index.

    :raises HTTPException: 404, it has not.
    """
    entry = await run_in_threadpool(_saved_by, task)
    image = entry.find_image(index) if entry else None
    if entry is None or image is None:
        raise HTTPException(404, _NO_IMAGE)
    return entry, image


def _saved_by(task: TaskAddress) -> IndexEntry | None:
    # A session of its own, which is given back before a storage that may be slow is asked.
    with create_session(scoped=False) as session:
        return queries.saved_by(session, task)


def _small(entry: IndexEntry, image: IndexedImage) -> bytes:
    with open_indexed(entry, image).file as file:
        return make_thumbnail(file)


def _readers(request: Request) -> StorageReaders:
    readers: StorageReaders = request.app.state.readers
    return readers


def _thumbnails(request: Request) -> Thumbnails:
    thumbnails: Thumbnails = request.app.state.thumbnails
    return thumbnails


# --- the application ---------------------------------------------------------------------------------


def create_app() -> FastAPI:
    """The application that Airflow mounts."""
    app = FastAPI(title="Seedream gallery", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.readers = StorageReaders()
    app.state.thumbnails = Thumbnails(app.state.readers)
    app.include_router(browse_routes)
    app.include_router(dag_routes)
    app.mount("/static", StaticFiles(directory=STATIC_FOLDER), name="static")
    app.add_exception_handler(StarletteHTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _misaddressed)
    app.add_exception_handler(PictureError, _no_picture)
    app.add_exception_handler(Exception, _broken)
    return app


async def _refused(request: Request, error: Exception) -> Response:
    """A page, or a line where the answer would be an image."""
    assert isinstance(error, StarletteHTTPException)
    title, text = _PROBLEMS.get(error.status_code, ("This page cannot be shown", ""))
    if error.status_code not in (401, 403) and error.detail:
        text = str(error.detail)
    if request.url.path.endswith(("/thumbnail", "/file")):
        return PlainTextResponse(text, error.status_code, error.headers)
    view = MessageView(root=_root(request), title=title, text=text)
    return HTMLResponse(rendering.message(view), error.status_code, error.headers)


async def _misaddressed(request: Request, error: Exception) -> Response:
    return await _refused(
        request, HTTPException(422, "A part of this page's address is too long or no number.")
    )


async def _broken(request: Request, error: Exception) -> Response:
    text = "Something went wrong that should not have; the log of the api-server says what."
    return await _refused(request, HTTPException(500, text))


async def _no_picture(request: Request, error: Exception) -> Response:
    assert isinstance(error, PictureError)
    return PlainTextResponse(str(error), error.status)

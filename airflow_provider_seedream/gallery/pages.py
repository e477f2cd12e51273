"""The gallery's pages and files: every request is checked, and only what a task has saved is shown."""

from __future__ import annotations

from functools import partial
from typing import IO, TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlencode

import pendulum
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.utils.session import create_session
from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, StreamingResponse

from airflow_provider_seedream.gallery import queries, rendering
from airflow_provider_seedream.gallery.authorization import requires_dag_of_path, select_readable
from airflow_provider_seedream.gallery.security_headers import FILE_POLICY
from airflow_provider_seedream.gallery.storage_threads import StorageThreads
from airflow_provider_seedream.gallery.thumbnails import Thumbnails, make_thumbnail
from airflow_provider_seedream.gallery.verified_images import (
    ImageError,
    find_image,
    open_indexed,
    read_saved,
)
from airflow_provider_seedream.gallery.view_models import Filters, GalleryView, ImageView
from airflow_provider_seedream.storage.index import IndexedImage, IndexEntry
from airflow_provider_seedream.urls import MOUNT, TaskAddress, make_run_path

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

MAX_CHARACTERS = 200
"""Longest text that is searched for in prompts."""

_BLOCK_BYTES = 256 * 1024
_FILE_SECONDS = 30.0
"""A person who has asked for one whole image waits longer than a page with its thumbnails."""

_NO_IMAGE = "This task has saved no such image; perhaps it was cleared and run again."
_CUT_SHORT = "The search has not read everything yet: go on with Older."

# --- what every route needs --------------------------------------------------------------------------


def _read_task(
    dag_id: str,
    run_id: str,
    task_id: str,
    map_index: Annotated[int, PathParameter(ge=-1, le=queries.MAX_INTEGER)],
) -> TaskAddress:
    return TaskAddress(dag_id, run_id, task_id, map_index)


def _refuse_wildcard(dag_id: str) -> None:
    # Airflow's check takes this for "any DAG".
    if dag_id == "~":
        raise HTTPException(404)


def _read_filters(
    dag_id: str | None = None,
    text: Annotated[str, Query(max_length=MAX_CHARACTERS)] = "",
    since: str | None = None,
    until: str | None = None,
) -> Filters:
    # An empty field of a form comes as an empty text.
    return Filters(dag_id=dag_id or None, text=text.strip(), since=_parse_day(since), until=_parse_day(until))


def _parse_day(text: str | None) -> pendulum.Date | None:
    try:
        return pendulum.Date.fromisoformat(text) if text else None
    except ValueError:
        raise HTTPException(400, f"{text!r} is no day; write it as 2026-01-31.") from None


def _read_cursor(cursor: str | None = None) -> queries.Cursor | None:
    try:
        return queries.Cursor.from_text(cursor) if cursor else None
    except ValueError:
        raise HTTPException(400, "This page's address is broken; go back to the newest images.") from None


TaskDep = Annotated[TaskAddress, Depends(_read_task)]
FiltersDep = Annotated[Filters, Depends(_read_filters)]
CursorDep = Annotated["queries.Cursor | None", Depends(_read_cursor)]

browse_routes = APIRouter(default_response_class=HTMLResponse)
dag_routes = APIRouter(
    prefix="/dags/{dag_id}/runs/{run_id}",
    dependencies=[Depends(_refuse_wildcard), Depends(requires_dag_of_path)],
    default_response_class=HTMLResponse,
)
_IMAGE = "/tasks/{task_id}/{map_index}/images/{index}"


# --- pages of tiles ----------------------------------------------------------------------------------


@browse_routes.get("/")
def show_all(request: Request, user: GetUserDep, filters: FiltersDep, cursor: CursorDep) -> str:
    """Show the latest images of all DAGs that the reader may read."""
    # Airflow's checks take a database connection each: none may be held meanwhile.
    with create_session(scoped=False) as session:
        known = queries.list_dag_ids(session)
    dag_ids = select_readable(known, request, user)
    with create_session(scoped=False) as session:
        found = queries.read_page(session, queries.Scope(dag_ids=dag_ids, filters=filters), cursor)
    return _render_tiles(request, "/", found, filters=filters, dag_ids=sorted(dag_ids))


@dag_routes.get("")
def show_run(request: Request, dag_id: str, run_id: str, session: SessionDep, cursor: CursorDep) -> str:
    """Show the images of a DAG run."""
    found = queries.read_page(session, queries.Scope(dag_ids=frozenset([dag_id]), run_id=run_id), cursor)
    return _render_tiles(request, make_run_path(dag_id, run_id), found, scope=TaskAddress(dag_id, run_id, ""))


@dag_routes.get("/tasks/{task_id}/{map_index}")
def show_task(
    request: Request,
    dag_id: str,
    run_id: str,
    task_id: str,
    map_index: str,
    session: SessionDep,
    cursor: CursorDep,
) -> str:
    """Show the images of a task instance; of all its map indexes, where Airflow's page names none."""
    task = TaskAddress(dag_id, run_id, task_id, _parse_map_index(map_index))
    scope = queries.Scope(
        dag_ids=frozenset([dag_id]),
        run_id=run_id,
        task_id=task_id,
        map_index=task.map_index if task.map_index >= 0 else None,
    )
    return _render_tiles(request, task.path, queries.read_page(session, scope, cursor), scope=task)


def _parse_map_index(text: str) -> int:
    """Return the index that a path names; -1 for anything that is none."""
    return min(int(text), queries.MAX_INTEGER) if text.isdecimal() and len(text) < 20 else -1


def _render_tiles(request: Request, path: str, found: queries.Page, **view: Any) -> str:
    """Draw a page of tiles whose address, below the mount point, is a path."""
    query = {name: value for name, value in request.query_params.items() if name != "cursor"}
    older = {**query, "cursor": found.older.to_text()} if found.older else None
    root = get_root(request)
    return rendering.render_gallery(
        GalleryView(
            root=root,
            airflow_root=root.removesuffix(MOUNT),
            tiles=found.tiles,
            older=_add_query(path, older) if older else None,
            newest=_add_query(path, query) if "cursor" in request.query_params else None,
            notice=_CUT_SHORT if found.cut_short else None,
            **view,
        )
    )


def _add_query(path: str, query: dict[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def get_root(request: Request) -> str:
    """Return the path of the mount point, that of ``[api] base_url`` included."""
    return str(request.scope.get("root_path", ""))


# --- one image ---------------------------------------------------------------------------------------


@dag_routes.get(_IMAGE)
async def show_image(request: Request, task: TaskDep, index: int) -> str:
    """Show one image with its manifest."""
    entry, image = await _find_indexed(task, index)
    indexes = [one.index for one in entry.images]
    place = indexes.index(image.index)
    root = get_root(request)
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
        manifest = await _get_threads(request).run(entry.destination, partial(read_saved, entry))
        found = view(manifest=manifest, image=find_image(manifest, index))
    except ImageError as error:
        found = view(problem=str(error))
    return await run_in_threadpool(rendering.render_image, found)


@dag_routes.get(_IMAGE + "/thumbnail", response_class=Response)
async def send_thumbnail(request: Request, task: TaskDep, index: int) -> Response:
    """Send a small WebP of one image, made once."""
    entry, image = await _find_indexed(task, index)
    etag = f'"{image.sha256}-small"'
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers={"ETag": etag})
    # Whoever names another manifest or task must not be served what was made for this one.
    key = (f"{entry.destination}/{image.name}", f"{image.sha256} {entry.manifest} {entry.seedream_task_id}")
    small = await _get_thumbnails(request).get(key, partial(_shrink, entry, image))
    return Response(small, media_type="image/webp", headers={"ETag": etag, **_FILE_HEADERS})


@dag_routes.get(_IMAGE + "/file", response_class=Response)
async def send_file(request: Request, task: TaskDep, index: int) -> Response:
    """Send one image as it was saved, verified before its first byte goes out."""
    entry, image = await _find_indexed(task, index)
    image_file = await _get_threads(request).run(
        entry.destination, partial(open_indexed, entry, image), _FILE_SECONDS
    )
    name = quote(image.name.rpartition("/")[2])
    return FileStream(
        image_file.file,
        media_type=image_file.media_type,
        headers={
            "Content-Length": str(image_file.bytes),
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


async def _find_indexed(task: TaskAddress, index: int) -> tuple[IndexEntry, IndexedImage]:
    """Find what a task has saved under an index.

    :raises HTTPException: 404, it has not.
    """
    entry = await run_in_threadpool(_find_saved, task)
    image = entry.find_image(index) if entry else None
    if entry is None or image is None:
        raise HTTPException(404, _NO_IMAGE)
    return entry, image


def _find_saved(task: TaskAddress) -> IndexEntry | None:
    # A session of its own, which is given back before a storage that may be slow is asked.
    with create_session(scoped=False) as session:
        return queries.find_saved(session, task)


def _shrink(entry: IndexEntry, image: IndexedImage) -> bytes:
    with open_indexed(entry, image).file as file:
        return make_thumbnail(file)


def _get_threads(request: Request) -> StorageThreads:
    threads: StorageThreads = request.app.state.threads
    return threads


def _get_thumbnails(request: Request) -> Thumbnails:
    thumbnails: Thumbnails = request.app.state.thumbnails
    return thumbnails

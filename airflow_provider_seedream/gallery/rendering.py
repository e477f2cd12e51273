"""Renders the gallery's pages as HTML: every value is text, whatever is written in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pendulum
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.filters import do_filesizeformat

from airflow_provider_seedream.apixo.model import DEFAULT_MODEL, MODELS
from airflow_provider_seedream.apixo.text import make_printable
from airflow_provider_seedream.gallery.view_models import (
    GalleryView,
    ImageView,
    MessageView,
    Placeholder,
    Progress,
    Tile,
    TileImage,
)
from airflow_provider_seedream.storage.manifest import Manifest, SavedImage
from airflow_provider_seedream.times import read_iso
from airflow_provider_seedream.urls import TaskAddress, make_run_path

URL_DAYS = round(MODELS[DEFAULT_MODEL].result_lifetime / 86400)
"""How long the vendor promises to keep images that nobody has saved."""

_ALT_CHARACTERS = 120
_TILE_CHARACTERS = 300  # More than fits into the two lines of a tile.

_SHOWN_ELSEWHERE = frozenset({"prompt", "image_urls"})


def render_gallery(view: GalleryView) -> str:
    """Render a page of tiles, as a whole HTML document."""
    return _render("gallery.html", view, empty=_explain_emptiness(view), summary=_summarize(view))


def render_image(view: ImageView) -> str:
    """Render the page of one image, as a whole HTML document."""
    request = (view.manifest and view.manifest.request) or {}
    values = {"prompt": str(request.get("prompt") or ""), "references": _list_references(request)}
    return _render("image.html", view, facts=list(_list_facts(view)), **values)


def render_message(view: MessageView) -> str:
    """Render a page that only says something, as a whole HTML document."""
    return _render("message.html", view)


# --- a page of tiles ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Emptiness:
    """The words of a page that has no tiles: why, and what to do about it.

    :param filtered: clearing the filters may help.
    :param new: the reader may not know yet how images come here.
    """

    title: str
    text: str
    filtered: bool = False
    new: bool = False


def _explain_emptiness(view: GalleryView) -> _Emptiness | None:
    """Explain why a page has no tiles; ``None`` where it has some."""
    if view.tiles:
        return None
    if view.newest:
        return _Emptiness("No older images", "Go back to the newest.")
    if view.filters:
        return _Emptiness("No image matches", "Try other words, another DAG or a longer time.", filtered=True)
    if view.scope is None:
        text = "Trigger a DAG with a Seedream task that has a destination; its images appear here."
        return _Emptiness("No images yet", text, new=True)
    if view.scope.task_id:
        text = "This tab is on every task. It fills once a Seedream task that has a destination has started."
        return _Emptiness("No Seedream images here", text)
    text = "They appear here once a Seedream task of this run that has a destination has started."
    return _Emptiness("No images in this run", text)


def _summarize(view: GalleryView) -> str | None:
    """Add up what a DAG run or task has saved, where the page shows all of it."""
    images = [tile for tile in view.tiles if isinstance(tile, TileImage)]
    if view.scope is None or view.older or view.newest or not images:
        return None
    costs = [image.cost_usd for image in images]
    known = [cost for cost in costs if cost is not None]
    total = [f"{_format_usd(sum(known))} USD"] if len(known) == len(costs) else []
    return " · ".join([_count_images(len(images)), *total])


def _make_key(tile: Tile) -> str:
    """Name a tile and its content: two drawings with the same key are the same."""
    if isinstance(tile, TileImage):
        return f"{tile.task.make_image_path(tile.index)} {tile.at.isoformat()}"
    # Not the time, which for a task that has not started is the time of the drawing.
    return f"{tile.task.path} {tile.progress.name} {tile.images} {tile.charged_usd}"


def _describe_image(image: TileImage) -> str:
    text = _shorten_for_alt(image.prompt or image.name)
    return f"{text}, image {image.index} of {image.of}" if image.of > 1 else text


def _list_origin(tile: Tile, scope: TaskAddress | None) -> list[str]:
    """Name where a tile comes from, as far as the page does not say it already."""
    task = tile.task
    mapped = f"[{task.map_index}]" if task.map_index >= 0 else ""
    if scope is None:
        return [task.dag_id, task.run_id]
    if not scope.task_id or scope.task_id != task.task_id:
        return [task.task_id + mapped]
    return [task.task_id + mapped] if mapped and scope.map_index < 0 else []


def _format_cost(image: TileImage) -> str | None:
    if image.reused:
        return "reused, 0 USD"
    return None if image.cost_usd is None else f"{_format_usd(image.cost_usd)} USD"


def _is_live(view: GalleryView) -> bool:
    """True if images will come without anybody doing anything."""
    return any(isinstance(tile, Placeholder) and tile.progress is Progress.GENERATING for tile in view.tiles)


# --- the page of one image ---------------------------------------------------------------------------

Facts = Iterator[tuple[str, str]]


def _list_facts(view: ImageView) -> Facts:
    """List names and values, the most asked for first; what is not known is left out."""
    if view.image:
        yield from _list_image_facts(view.image)
    if view.manifest:
        yield from _keep_known(_list_task_facts(view.manifest))
        yield from _list_request_facts(view.manifest.request or {})
    if source := _describe_source(view):
        yield "Comes from", source
    if view.image:
        yield from [("File", view.image.path), ("SHA-256", view.image.sha256)]


def _list_image_facts(image: SavedImage) -> Facts:
    yield "Pixels", f"{image.width} × {image.height}"  # noqa: RUF001
    yield "Size", f"{do_filesizeformat(image.bytes)} ({image.bytes:,} bytes)"
    yield "Format", image.format.upper()


def _list_task_facts(manifest: Manifest) -> Iterator[tuple[str, str | None]]:
    cost = manifest.cost_usd
    yield (
        "Cost",
        None if cost is None else f"{_format_usd(cost)} USD for {_count_images(len(manifest.images))}",
    )
    yield "Model", manifest.model
    yield "Created", _format_moment(manifest.created_at)
    yield "Completed", _format_moment(manifest.completed_at)
    yield "Saved", _format_moment(manifest.saved_at)
    yield "taskId", manifest.seedream_task_id
    yield "Top-ups", ", ".join(manifest.top_up_task_ids or ())


def _list_request_facts(request: Mapping[str, Any]) -> Facts:
    """List what was asked for, under the API's own names, which are the operators' too."""
    for name, value in request.items():
        if name not in _SHOWN_ELSEWHERE and value is not None:
            yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _keep_known(facts: Iterator[tuple[str, str | None]]) -> Facts:
    return ((name, value) for name, value in facts if value)


def _describe_source(view: ImageView) -> str | None:
    """Name the task that saved the images first, where it is another than the one that shows them."""
    manifest, task = view.manifest, view.task
    if manifest is None or manifest.dag_id is None:
        return None
    if (manifest.dag_id, manifest.run_id, manifest.task_id) == (task.dag_id, task.run_id, task.task_id):
        return None
    return f"DAG {manifest.dag_id}, run {manifest.run_id}, task {manifest.task_id}"


def _list_references(request: Mapping[str, Any]) -> list[str]:
    """List the URLs of reference images, as they were sent."""
    urls = request.get("image_urls")
    return [str(url) for url in urls] if isinstance(urls, list) else []


# --- text --------------------------------------------------------------------------------------------


def _shorten(text: str, limit: int = _TILE_CHARACTERS) -> str:
    """Return the beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def _shorten_for_alt(text: str) -> str:
    """Return as much of a text as is read aloud for an image."""
    return _shorten(text, _ALT_CHARACTERS)


def _count_images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _format_usd(amount: float) -> str:
    """Write an amount without noise from adding floats, and without trailing zeros."""
    return f"{amount:.4f}".rstrip("0").rstrip(".")


def _format_moment(at: datetime | str | None) -> str | None:
    """Write a time as Airflow does; what is no time stays as it is."""
    try:
        moment = read_iso(at) if isinstance(at, str) else at
        return f"{moment.astimezone(pendulum.UTC):%Y-%m-%d %H:%M:%S} UTC" if moment else None
    except (ValueError, OverflowError):
        return str(at)


def _format_clock(at: datetime) -> str:
    return f"{at.astimezone(pendulum.UTC):%H:%M:%S} UTC"


def _make_printable(value: Any) -> Any:
    """Replace, in what a template is about to write, what no HTML document may hold."""
    is_text = isinstance(value, str) and not hasattr(value, "__html__")
    return make_printable(value.replace("\r\n", "\n")) if is_text else value


# --- templates ---------------------------------------------------------------------------------------

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_make_printable,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.globals.update(URL_DAYS=URL_DAYS, make_run_path=make_run_path)
_TEMPLATES.tests.update(image=lambda tile: isinstance(tile, TileImage), live=_is_live)
_TEMPLATES.filters.update(
    alt=_describe_image,
    brief=_shorten_for_alt,
    clock=_format_clock,
    cost=_format_cost,
    excerpt=_shorten,
    images=_count_images,
    key=_make_key,
    moment=_format_moment,
    origin=_list_origin,
    usd=_format_usd,
)


def _render(template: str, view: GalleryView | ImageView | MessageView, **values: Any) -> str:
    return _TEMPLATES.get_template(template).render(view=view, **values)

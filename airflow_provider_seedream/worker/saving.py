"""Saves a result from an Airflow task, or finds it saved: target, images, manifest and asset facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import Asset, ObjectStoragePath

from airflow_provider_seedream.apixo.records import Submission, result_record
from airflow_provider_seedream.apixo.status import SUCCESS, TaskStatus
from airflow_provider_seedream.errors import (
    ConnectionConfigError,
    InvalidRequestError,
    OccupiedError,
    Problem,
)
from airflow_provider_seedream.links.seedream import gallery_address
from airflow_provider_seedream.parameters import is_nothing
from airflow_provider_seedream.storage.destination import check_writable, resolve_destination
from airflow_provider_seedream.storage.index import SAVED_KEY, IndexEntry
from airflow_provider_seedream.storage.manifest import Manifest, TaskRecord
from airflow_provider_seedream.storage.naming import FileNames, check_template
from airflow_provider_seedream.storage.reuse import find_finished, find_occupant
from airflow_provider_seedream.storage.save import save_task
from airflow_provider_seedream.times import from_iso

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_seedream.apixo.request import GenerateRequest
    from airflow_provider_seedream.hooks.seedream import SeedreamHook


@dataclass(frozen=True, slots=True)
class Target:
    """Where a task's images go.

    :param folder: a writable folder or prefix.
    :param filename: template of the file names.
    """

    folder: ObjectStoragePath
    filename: str


def open_target(
    destination: Any,
    storage_conn_id: str | None,
    filename: str,
    images: int | None = None,
    *,
    has_fingerprint: bool = True,
) -> Target:
    """Open the destination and prove that it can be written, before money is spent or bytes are fetched.

    :param images: the number of images that may come, which the file name template must tell apart.
    :param has_fingerprint: whether the request behind the images is known.
    :raises DestinationError: it cannot be used.
    :raises InvalidRequestError: the file name template breaks a rule.
    """
    if is_nothing(filename):
        raise InvalidRequestError(
            [Problem("filename", repr(filename), "is empty", "Leave it out or name it.")]
        )
    check_template(filename, images, has_fingerprint=has_fingerprint)
    folder = resolve_destination(destination, storage_conn_id)
    check_writable(folder)
    return Target(folder, filename)


def save(result: Mapping[str, Any], target: Target, hook: SeedreamHook, context: Context) -> dict[str, Any]:
    """Save the images of a result record, and return it with what was saved.

    :returns: ``result`` and: ``destination``, ``manifest`` (path), ``images`` (a list of
        :class:`~airflow_provider_seedream.storage.manifest.SavedImage` as dicts).
    :raises DownloadError: not all images could be saved.
    """
    size = result.get("size")
    manifest = save_task(
        _task_record(result, context),
        result["urls"],
        target.folder,
        template=target.filename,
        expected_size=(size[0], size[1]) if size else None,
        trusted_origin=_trusted_origin(hook),
        log=hook.log,
    )
    saved = _what_is_saved(manifest, target)
    _tell_gallery(manifest, saved, context, hook, reused=False)
    _tell_outlets(context, {**saved, "cost_usd": manifest.cost_usd})
    return {**result, **saved}


def find_saved(
    request: GenerateRequest, target: Target, min_images: int, hook: SeedreamHook, context: Context
) -> dict[str, Any] | None:
    """The result of the very same request that lies at the target already, intact; it costs nothing.

    :param request: as it would be sent, routing included.
    :param min_images: an earlier result with fewer images is no result.
    :returns: what :func:`save` returns, with ``reused`` true and all money 0; ``None`` if there is none.
    """
    manifest = find_finished(
        target.folder, target.filename, request.fingerprint, min_images=min_images, log=hook.log
    )
    if manifest is None:
        return None
    hook.log.info("Reusing the images of task %s; nothing is bought.", manifest.seedream_task_id)
    saved = _what_is_saved(manifest, target)
    _tell_gallery(manifest, saved, context, hook, reused=True)
    _tell_outlets(context, {**saved, "cost_usd": 0.0})
    price = hook.account.price_per_image
    created = from_iso(manifest.created_at)
    submission = replace(
        Submission.of(request, manifest.seedream_task_id, price_per_image=price, now=0.0),
        submitted_at=created,
    )
    urls = tuple(image.url for image in manifest.images)
    completed = from_iso(manifest.completed_at)
    status = TaskStatus(manifest.seedream_task_id, SUCCESS, urls, created_at=created, completed_at=completed)
    nothing = {"charged_usd": 0.0, "cost_usd": 0.0, "refunded_usd": 0.0, "reused": True}
    return {**result_record((submission, status)), **nothing, **saved}


def check_unoccupied(request: GenerateRequest, target: Target, hook: SeedreamHook) -> None:
    """Refuse a target that holds what the request's images would repeat or overwrite.

    :raises OccupiedError: naming the file.
    """
    occupant = find_occupant(
        target.folder, target.filename, request.fingerprint, images=request.max_images, log=hook.log
    )
    if occupant:
        raise OccupiedError(occupant)


def _what_is_saved(manifest: Manifest, target: Target) -> dict[str, Any]:
    names = FileNames(target.filename, manifest.seedream_task_id, manifest.fingerprint)
    return {
        "destination": str(target.folder),
        "manifest": str(target.folder / names.manifest),
        "images": [asdict(image) for image in manifest.images],
    }


def _task_record(result: Mapping[str, Any], context: Context) -> TaskRecord:
    known: dict[str, Any] = {field.name: result.get(field.name) for field in fields(TaskRecord)}
    ti = context["ti"]
    known |= {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": ti.map_index}
    return TaskRecord(**known)


def _trusted_origin(hook: SeedreamHook) -> str | None:
    """The sandbox's origin; the real API has none, nor have plain URLs without a connection."""
    try:
        account = hook.account
    except ConnectionConfigError:
        return None
    parts = urlsplit(account.base_url)
    return f"{parts.scheme}://{parts.netloc}" if account.is_local else None


def _tell_gallery(
    manifest: Manifest, saved: Mapping[str, Any], context: Context, hook: SeedreamHook, *, reused: bool
) -> None:
    """Make the images known to the gallery; without it they are saved all the same."""
    try:
        entry = IndexEntry.of(
            manifest, destination=saved["destination"], path=saved["manifest"], reused=reused
        )
        context["ti"].xcom_push(key=SAVED_KEY, value=entry.to_json())
        hook.log.info("See the images at %s", gallery_address(context["ti"]))
    except Exception as error:  # noqa: BLE001 - nothing is worth failing for once the images are in place
        hook.log.warning("The gallery may not show these images: %s", error)


def _tell_outlets(context: Context, facts: Mapping[str, Any]) -> None:
    """Put what was saved into the events of the task's outlet assets."""
    for outlet in context.get("outlets") or []:
        if isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra.update(facts)

"""Saves a result from an Airflow task, or finds it saved: target, images, manifest and asset facts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import Asset, ObjectStoragePath

from airflow_provider_seedream.apixo.records import Submission
from airflow_provider_seedream.apixo.status import SUCCESS, TaskStatus
from airflow_provider_seedream.errors import (
    ConnectionConfigError,
    InvalidRequestError,
    OccupiedError,
    Problem,
)
from airflow_provider_seedream.links.seedream import make_gallery_url
from airflow_provider_seedream.parameters import is_nothing
from airflow_provider_seedream.result import Result
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
    """The place of a task's images.

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


def save(result: Result, target: Target, hook: SeedreamHook, context: Context) -> Result:
    """Save the images of a result, and return it with what was saved.

    :raises DownloadError: not all images could be saved.
    """
    manifest = save_task(
        _make_task_record(result, context),
        result.urls,
        target.folder,
        template=target.filename,
        expected_size=(result.size[0], result.size[1]) if result.size else None,
        trusted_origin=_find_trusted_origin(hook),
        log=hook.log,
    )
    saved = _add_saved(result, manifest, target)
    _tell_gallery(manifest, saved, context, hook, reused=False)
    _tell_outlets(context, saved, manifest.cost_usd)
    return saved


def find_reusable(
    request: GenerateRequest, target: Target, min_images: int, hook: SeedreamHook, context: Context
) -> Result | None:
    """Return the result of the very same request that lies at the target already, intact; it costs nothing.

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
    reused = replace(
        _read_result(request, manifest, hook.account.price_per_image),
        charged_usd=0.0,
        cost_usd=0.0,
        refunded_usd=0.0,
        reused=True,
    )
    saved = _add_saved(reused, manifest, target)
    _tell_gallery(manifest, saved, context, hook, reused=True)
    _tell_outlets(context, saved, 0.0)
    return saved


def _read_result(request: GenerateRequest, manifest: Manifest, price: Decimal) -> Result:
    """Return the result of a request whose images a manifest vouches for."""
    created, completed = from_iso(manifest.created_at), from_iso(manifest.completed_at)
    submission = Submission.of(request, manifest.seedream_task_id, price_per_image=price, now=0.0)
    urls = tuple(image.url for image in manifest.images)
    status = TaskStatus(manifest.seedream_task_id, SUCCESS, urls, created_at=created, completed_at=completed)
    return Result.of((replace(submission, submitted_at=created), status))


def check_unoccupied(request: GenerateRequest, target: Target, hook: SeedreamHook) -> None:
    """Refuse a target that holds what the request's images would repeat or overwrite.

    :raises OccupiedError: naming the file.
    """
    occupant = find_occupant(
        target.folder, target.filename, request.fingerprint, images=request.max_images, log=hook.log
    )
    if occupant:
        raise OccupiedError(occupant)


def _add_saved(result: Result, manifest: Manifest, target: Target) -> Result:
    names = FileNames(target.filename, manifest.seedream_task_id, manifest.fingerprint)
    return replace(
        result,
        destination=str(target.folder),
        manifest=str(target.folder / names.manifest),
        images=manifest.images,
    )


def _make_task_record(result: Result, context: Context) -> TaskRecord:
    ti = context["ti"]
    return TaskRecord(
        seedream_task_id=result.seedream_task_id,
        model=result.model,
        request=None if result.request is None else dict(result.request),
        fingerprint=result.fingerprint,
        requested=result.requested,
        delivered=result.delivered,
        cost_usd=result.cost_usd,
        top_up_task_ids=list(result.top_up_task_ids),
        created_at=result.created_at,
        completed_at=result.completed_at,
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        task_id=ti.task_id,
        map_index=ti.map_index,
    )


def _find_trusted_origin(hook: SeedreamHook) -> str | None:
    """Return the sandbox's origin; the real API has none, nor have plain URLs without a connection."""
    try:
        account = hook.account
    except ConnectionConfigError:
        return None
    parts = urlsplit(account.base_url)
    return f"{parts.scheme}://{parts.netloc}" if account.is_local else None


def _tell_gallery(
    manifest: Manifest, saved: Result, context: Context, hook: SeedreamHook, *, reused: bool
) -> None:
    """Make the images known to the gallery; without it they are saved all the same.

    :param reused: whether they lay there already, and not whether those that they were fetched from did.
    """
    try:
        entry = IndexEntry.of(
            manifest, destination=str(saved.destination), path=str(saved.manifest), reused=reused
        )
        context["ti"].xcom_push(key=SAVED_KEY, value=entry.to_json())
        hook.log.info("See the images at %s", make_gallery_url(context["ti"]))
    except Exception as error:  # noqa: BLE001 - nothing is worth failing for once the images are in place
        hook.log.warning("The gallery may not show these images: %s", error)


def _tell_outlets(context: Context, saved: Result, cost_usd: float | None) -> None:
    """Put what was saved into the events of the task's outlet assets."""
    known = saved.to_json()
    facts = {**{name: known[name] for name in ("destination", "manifest", "images")}, "cost_usd": cost_usd}
    for outlet in context.get("outlets") or []:
        if isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra.update(facts)

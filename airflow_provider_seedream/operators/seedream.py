"""Operators: submit a generation, download its images, or do the whole job in one task.

What only a running task needs (steps, saving, the hook) is imported inside the methods: importing it here
would more than double what every parsing of a DAG pays (``benchmarks/import_cost.py``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_seedream.apixo.errors import InvalidRequestError, Problem
from airflow_provider_seedream.apixo.model import DEFAULT_GENERATION_TIMEOUT, DEFAULT_MODEL
from airflow_provider_seedream.apixo.request import (
    GenerateRequest,
    find_problems,
    read_rendered,
    shown,
    value_from_text,
)
from airflow_provider_seedream.hooks.connection_form import DEFAULT_CONN_ID
from airflow_provider_seedream.hooks.mixin import UsesSeedreamHook
from airflow_provider_seedream.links.seedream import SeedreamResultLink
from airflow_provider_seedream.parameters import (
    check_destination,
    check_filename,
    check_task_id,
    final_refusals,
    is_templated,
    optional_seconds,
    seconds,
    url_list,
)
from airflow_provider_seedream.storage.naming import DEFAULT_TEMPLATE, urls_id

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_seedream.apixo.records import Submission
    from airflow_provider_seedream.apixo.verdict import Verdict
    from airflow_provider_seedream.saving import Target

# Delivery by callback is no parameter of these operators.
_REQUEST_FIELDS = tuple(
    name for name in GenerateRequest.__slots__ if name not in ("request_type", "callback_url")
)
_PROMPT_FILES = (".txt", ".md", ".prompt", ".j2", ".jinja2")


class SeedreamRequestOperator(UsesSeedreamHook, BaseOperator):
    """What Submit and Generate have in common: the content of a request.

    Fields without a template are checked when the DAG is parsed, all others when the task starts; both
    happen before anything is sent.

    :param prompt: what to draw, 1-5000 characters, or the name of a file that holds it
        (``.txt``, ``.md``, ``.prompt``, ``.j2``, ``.jinja2`` beside the DAG). (templated)
    :param image_urls: 1-14 public https URLs of reference images. (templated)
    :param max_images: number of images, 1-10; all are pre-charged. (templated)
    :param resolution: ``2K`` or ``4K``. (templated)
    :param aspect_ratio: one of 1:1, 2:3, 3:2, 3:4, 4:3, 9:16, 16:9, 21:9; ``None`` leaves the shape to the
        provider. (templated)
    :param sequential_image_generation: ``disabled``, or ``auto`` for a connected set. (templated)
    :param mode: follows from ``image_urls`` unless given. (templated)
    :param model: the model's id. (templated)
    :param provider: routing ``auto``, ``value`` or ``official``; the connection's when ``None``. (templated)
    :param seedream_conn_id: connection of type ``seedream``. (templated)
    """

    template_fields: Sequence[str] = (*_REQUEST_FIELDS, "seedream_conn_id")
    template_ext: Sequence[str] = _PROMPT_FILES
    ui_color = "#dfe9f5"

    def __init__(
        self,
        *,
        prompt: str,
        image_urls: Sequence[str] | None = None,
        max_images: int = 1,
        resolution: str = "2K",
        aspect_ratio: str | None = None,
        sequential_image_generation: str = "disabled",
        mode: str | None = None,
        model: str = DEFAULT_MODEL,
        provider: str | None = None,
        seedream_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.prompt = prompt
        self.image_urls = image_urls
        self.max_images = max_images
        self.resolution = resolution
        self.aspect_ratio = aspect_ratio
        self.sequential_image_generation = sequential_image_generation
        self.mode = mode
        self.model = model
        self.provider = provider
        self.seedream_conn_id = seedream_conn_id
        fields = self._request_fields()
        self._templated_fields = frozenset(
            name for name, value in fields.items() if is_templated(value, self.template_ext)
        )
        with final_refusals():
            if problems := list(find_problems(fields, self._templated_fields)):
                raise InvalidRequestError(problems)

    def _request_fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _REQUEST_FIELDS}

    def _request(self) -> GenerateRequest:
        """The rendered, validated request."""
        return GenerateRequest(**read_rendered(self._request_fields(), self._templated_fields))


class SeedreamSubmitOperator(SeedreamRequestOperator):
    """Submits a generation and returns its taskId; pair it with the sensor and the download operator.

    Pushes to XCom: ``return_value``, the API's taskId; ``submission``, what was bought
    (:meth:`~airflow_provider_seedream.apixo.records.Submission.to_json`: model, resolution, created_at,
    requested, charged_usd, size, request, ...), which the sensor finds by itself.

    A retry submits, and pays, again.

    :raises NotChargedError: it was refused or never arrived; nothing was charged.
    :raises AmbiguousSubmitError: the answer was lost; a charge may have happened.
    """

    def execute(self, context: Context) -> str:
        """Submit; this spends money."""
        from airflow_provider_seedream import steps

        with steps.hopeless_failures_end_the_task():
            return steps.submit(self.hook, self._request(), context).seedream_task_id


class _SavesImages(UsesSeedreamHook):
    """What Download and Generate have in common: a destination, opened before anything is paid or fetched."""

    destination: str | ObjectStoragePath | None
    storage_conn_id: str | None
    filename: str

    def _open_target(self, images: int) -> Target:
        from airflow_provider_seedream.saving import open_target

        return open_target(self.destination, self.storage_conn_id, self.filename, images)

    def _save(self, result: Mapping[str, Any], target: Target, context: Context) -> dict[str, Any]:
        from airflow_provider_seedream.saving import save

        return save(result, target, self.hook, context)


class SeedreamDownloadOperator(_SavesImages, BaseOperator):
    """Saves the images of a finished task to a destination, each verified before it becomes visible.

    Give exactly one of ``result``, ``seedream_task_id`` and ``urls``. Running it again fetches nothing that
    is already there and intact.

    Returns (XCom) the result record, and: ``destination``, ``manifest`` (path) and ``images``, a list of
    ``{"index", "path", "name", "url", "bytes", "sha256", "format", "width", "height"}``.

    :param result: what the sensor returned, usually ``wait.output``. (templated)
    :param seedream_task_id: taskId of a finished task. (templated)
    :param urls: plain URLs of images. (templated)
    :param destination: folder as an ``ObjectStoragePath`` or its string, such as
        ``s3://aws_default@bucket/prefix`` or ``file:///data/images``. (templated)
    :param storage_conn_id: connection of the destination, where the path names none. (templated)
    :param filename: template of the file names without extension; ``{seedream_task_id}`` and ``{index}`` are
        filled in, the extension follows the image's true format. (templated)
    :param model: model of ``seedream_task_id``. (templated)
    :param seedream_conn_id: connection of type ``seedream``. (templated)
    :raises DestinationError: the destination cannot be written; found before anything is fetched.
    :raises ResultExpiredError: the result host no longer has the image.
    :raises DownloadError: an image could not be fetched whole; what was saved stays.
    """

    template_fields: Sequence[str] = (
        "result",
        "seedream_task_id",
        "urls",
        "destination",
        "storage_conn_id",
        "filename",
        "model",
        "seedream_conn_id",
    )
    ui_color = "#e3f5e8"
    operator_extra_links = (SeedreamResultLink(),)

    def __init__(
        self,
        *,
        destination: str | ObjectStoragePath,
        result: Mapping[str, Any] | None = None,
        seedream_task_id: str | None = None,
        urls: Sequence[str] | None = None,
        storage_conn_id: str | None = None,
        filename: str = DEFAULT_TEMPLATE,
        model: str = DEFAULT_MODEL,
        seedream_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self.result = result
        self.seedream_task_id = seedream_task_id
        self.urls = urls
        self.storage_conn_id = storage_conn_id
        self.filename = filename
        self.model = model
        self.seedream_conn_id = seedream_conn_id
        with final_refusals():
            self._check_sources()
            check_destination(destination)
            check_filename(filename)

    def _check_sources(self) -> None:
        sources = [name for name in ("result", "seedream_task_id", "urls") if getattr(self, name) is not None]
        if len(sources) != 1:
            rule = "exactly one of result, seedream_task_id and urls says what to download"
            remedy = "Pass the sensor's output as result, a taskId, or a list of URLs."
            raise InvalidRequestError([Problem("result", ", ".join(sources) or "None", rule, remedy)])

    def execute(self, context: Context) -> dict[str, Any]:
        """Fetch, verify and place the images, then the manifest."""
        from airflow_provider_seedream import steps

        with steps.hopeless_failures_end_the_task():
            source = self._source(context)
            return self._save(source, self._open_target(len(source["urls"])), context)

    def _source(self, context: Context) -> Mapping[str, Any]:
        """The result record to save."""
        if self.seedream_task_id is not None:
            return self._look_up(context)
        if self.urls is not None:
            urls = url_list(value_from_text(self.urls) if isinstance(self.urls, str) else self.urls, "urls")
            return {"seedream_task_id": urls_id(urls), "urls": urls, "delivered": len(urls)}
        result = value_from_text(self.result) if isinstance(self.result, str) else self.result
        if not isinstance(result, Mapping) or not isinstance(result.get("seedream_task_id"), str):
            remedy = "Pass the sensor's output."
            raise InvalidRequestError(
                [Problem("result", shown(result), "is no result of the sensor", remedy)]
            )
        return {**result, "urls": url_list(result.get("urls"), "result['urls']")}

    def _look_up(self, context: Context) -> dict[str, Any]:
        """The result of a task that must have finished."""
        from airflow_provider_seedream import steps

        task_id = check_task_id(self.seedream_task_id)
        submission = steps.find_submission(context, self, task_id) or steps.foreign_submission(
            self.hook, task_id, model=self.model
        )
        status = self.hook.get_status(task_id, submission.model)
        return steps.conclude_finished(submission, status)


class SeedreamGenerateOperator(_SavesImages, SeedreamRequestOperator):
    """Submits, waits without a worker slot, and saves the images: the whole job in one task.

    Returns (XCom) the result record described at
    :func:`~airflow_provider_seedream.apixo.records.result_record`; with a destination also what
    :class:`SeedreamDownloadOperator` adds. Pushes ``submission`` as soon as the task is accepted.

    After the purchase, only a generation that APIXO reports as failed (and refunds) is left to Airflow's
    retries, since a retry submits anew; all else ends the task, and says how to finish the job at no cost.

    :param destination: folder for the images, checked before money is spent; ``None`` returns URLs only.
        (templated)
    :param storage_conn_id: connection of the destination, where the path names none. (templated)
    :param filename: template of the file names, as for the download operator. (templated)
    :param generation_timeout: seconds to wait for the result.
    :param first_poll: seconds from the submission to the first look; ``None`` follows the model
        (2K: 20, 4K: 30).
    :param poll_interval: seconds between two looks; ``None`` follows the model (2K: 3-5, 4K: 5).
    :param deferrable: wait in the triggerer; ``False`` waits in the worker.
    :raises SeedreamError: see the three operators that this one replaces.
    """

    template_fields: Sequence[str] = (
        *SeedreamRequestOperator.template_fields,
        "destination",
        "storage_conn_id",
        "filename",
    )
    ui_color = "#e3e3f5"
    operator_extra_links = (SeedreamResultLink(),)

    def __init__(
        self,
        *,
        destination: str | ObjectStoragePath | None = None,
        storage_conn_id: str | None = None,
        filename: str = DEFAULT_TEMPLATE,
        generation_timeout: float | timedelta = DEFAULT_GENERATION_TIMEOUT,
        first_poll: float | timedelta | None = None,
        poll_interval: float | timedelta | None = None,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self.storage_conn_id = storage_conn_id
        self.filename = filename
        self.deferrable = deferrable
        # Decided here: a template that renders to nothing is a mistake, not a wish for URLs only.
        self._saves = destination is not None
        with final_refusals():
            self.generation_timeout = seconds("generation_timeout", generation_timeout)
            self.first_poll = optional_seconds("first_poll", first_poll, zero_allowed=True)
            self.poll_interval = optional_seconds("poll_interval", poll_interval)
            if self._saves:
                check_destination(destination)
            known = self._saves and "max_images" not in self._templated_fields
            check_filename(filename, self.max_images if known else None)

    def execute(self, context: Context) -> dict[str, Any]:
        """Check everything that is free, submit, and wait."""
        from airflow_provider_seedream import steps

        with steps.hopeless_failures_end_the_task():
            request = self._request()
            steps.min_deferral_seconds()
            if self._saves:
                self._open_target(request.max_images)
            submission = steps.submit(self.hook, request, context)
            with steps.nothing_is_bought_again(submission.seedream_task_id):
                deadline = time.time() + self.generation_timeout
                pace = steps.paced(submission, self.first_poll, self.poll_interval)
                if self.deferrable:
                    steps.defer_until_finished(
                        self, submission, pace, deadline=deadline, conn_id=self.seedream_conn_id
                    )
                verdict = steps.wait(self.hook, submission, pace, deadline=deadline)
                return self._finish(context, submission, verdict)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; a trigger that was lost or timed out is answered with one last look of our own."""
        from airflow_provider_seedream import steps

        if next_method != steps.DEFERRAL_FAILED:
            return super().resume_execution(next_method, next_kwargs, context)
        with steps.hopeless_failures_end_the_task():
            submission = steps.own_submission(context)
            with steps.nothing_is_bought_again(submission.seedream_task_id):
                verdict = steps.look_after_failed_deferral(self.hook, submission, next_kwargs)
                return self._finish(context, submission, verdict)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Resume with the trigger's event: conclude and save."""
        from airflow_provider_seedream import steps

        with steps.hopeless_failures_end_the_task():
            verdict = steps.verdict_of(event)
            with steps.nothing_is_bought_again(verdict.task_id):
                submission = steps.recorded_submission(context, self.task_id, verdict.task_id)
                # Even without its record, what was paid for is kept.
                submission = submission or steps.foreign_submission(self.hook, verdict.task_id)
                return self._finish(context, submission, verdict)

    def _finish(self, context: Context, submission: Submission, verdict: Verdict) -> dict[str, Any]:
        from airflow_provider_seedream import steps

        result = steps.conclude(submission, verdict, retry_submits=True)
        if not self._saves:
            return result
        return self._save(result, self._open_target(len(result["urls"])), context)

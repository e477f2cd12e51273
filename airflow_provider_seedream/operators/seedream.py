"""Operators: submit a generation, download its images, or do the whole job in one task.

A running task enters ``worker``, which is imported inside the methods: importing it here would more than
double what every parsing of a DAG pays (``benchmarks/import_cost.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_seedream.airflow_compat import DEFERRAL_FAILED
from airflow_provider_seedream.apixo.model import DEFAULT_GENERATION_TIMEOUT, DEFAULT_MODEL, SEEDREAM_4_5
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.apixo.rules import ASYNC, CALLBACK, find_problems, show_value
from airflow_provider_seedream.errors import InvalidRequestError, Problem
from airflow_provider_seedream.hooks.connection_form import DEFAULT_CONN_ID
from airflow_provider_seedream.hooks.mixin import UsesSeedreamHook
from airflow_provider_seedream.links.seedream import SeedreamGalleryLink, SeedreamResultLink
from airflow_provider_seedream.parameters import (
    check_callbacks_possible,
    check_choice,
    check_destination,
    check_filename,
    check_image_count,
    is_templated,
    read_fail_codes,
    read_money,
    read_optional_seconds,
    read_rendered,
    read_seconds,
    refuse_for_good,
)
from airflow_provider_seedream.purchases.terms import Terms
from airflow_provider_seedream.storage.naming import DEFAULT_TEMPLATE

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath


# How a result is delivered decides what Airflow must have, so it is known when the DAG is parsed.
_TEMPLATED_FIELDS = tuple(field.name for field in fields(GenerateRequest) if field.name != "request_type")
MOST_IMAGES = SEEDREAM_4_5.images_per_task.high
_PROMPT_FILES = (".txt", ".md", ".prompt", ".j2", ".jinja2")


class SeedreamRequestOperator(UsesSeedreamHook, BaseOperator):
    """The content of a request, which Submit and Generate have in common.

    Fields without a template are checked when the DAG is parsed, all others when the task starts; both
    happen before anything is sent.

    :param prompt: what to draw, 1-5000 characters, or the name of a file that holds it
        (``.txt``, ``.md``, ``.prompt``, ``.j2``, ``.jinja2`` beside the DAG). (templated)
    :param image_urls: 1-14 public https URLs of reference images. (templated)
    :param max_images: number of images, 1-10; all are pre-charged. (templated)
    :param resolution: ``2K`` or ``4K``. (templated)
    :param aspect_ratio: one of 1:1, 2:3, 3:2, 3:4, 4:3, 9:16, 16:9, 21:9; ``None``, or ``none`` from a
        template, leaves the shape to the provider. (templated)
    :param sequential_image_generation: ``disabled``, or ``auto`` for a connected set. (templated)
    :param mode: follows from ``image_urls`` unless given. (templated)
    :param model: the model's id. (templated)
    :param provider: routing ``auto``, ``value`` or ``official``; the connection's when ``None``. (templated)
    :param seedream_conn_id: connection of type ``seedream``. (templated)
    :param durable: record each purchase in Airflow's task state store, so that a retry carries on with what
        was bought, and only a user's clear buys anew. Needs Airflow 3.3; before, a log line says so.
    :param on_ambiguous_submit: what to do where a charge may have happened without an answer: ``fail`` ends
        the task; ``resubmit`` submits again, at once and in every retry, and may pay twice.
    :param max_cost: USD that this task may spend in all its tries; refused before the submission. (templated)
    :param check_balance: refuse the submission unless the key's balance covers its pre-charge.
    :param request_type: ``async``: the result is polled for. ``callback``: APIXO calls Airflow's api-server
        (Airflow 3.3+, see ``docs/callbacks.md``), which resumes the task that waits, and polls are few.
    :param callback_url: only with ``callback``: APIXO calls this public https URL in place of Airflow, which
        polls as with ``async``. (templated)
    """

    template_fields: Sequence[str] = (*_TEMPLATED_FIELDS, "max_cost", "seedream_conn_id")
    template_ext: Sequence[str] = _PROMPT_FILES
    ui_color = "#dfe9f5"
    report_kill: Callable[[], None] | None = None
    _waits_itself = True

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
        durable: bool = True,
        on_ambiguous_submit: str = "fail",
        max_cost: float | str | None = None,
        check_balance: bool = False,
        request_type: str = ASYNC,
        callback_url: str | None = None,
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
        self.durable = durable
        self.on_ambiguous_submit = on_ambiguous_submit
        self.max_cost = max_cost
        self.check_balance = check_balance
        self.request_type = request_type
        self.callback_url = callback_url
        # Decided here: a template that renders to nothing must not turn into a call of Airflow.
        self._calls_airflow = request_type == CALLBACK and callback_url is None
        self._has_budget = max_cost is not None
        request_fields = self._list_request_fields()
        self._templated_fields = frozenset(
            name for name, value in request_fields.items() if is_templated(value, self.template_ext)
        )
        with refuse_for_good():
            if problems := list(find_problems(request_fields, self._templated_fields)):
                raise InvalidRequestError(problems)
            check_choice("on_ambiguous_submit", on_ambiguous_submit, ("fail", "resubmit"))
            if self._calls_airflow:
                check_callbacks_possible(durable=durable, waits_itself=self._waits_itself)
            if not is_templated(max_cost):
                read_money("max_cost", max_cost)

    def on_kill(self) -> None:
        """Say what cannot be undone; Airflow calls it when the worker is told to stop."""
        if self.report_kill is not None:
            self.report_kill()

    def read_request(self) -> GenerateRequest:
        """Return the rendered, validated request; log what it may cost.

        :raises InvalidRequestError: it breaks a rule of the vendor's page.
        """
        request = GenerateRequest(**read_rendered(self._list_request_fields(), self._templated_fields))
        price = self.hook.account.price_per_image
        self.log.info(
            "Asks for up to %d image(s) at %s USD each: %s USD at most.",
            request.max_images, price, request.compute_max_cost(price),
        )  # fmt: skip
        return request

    def make_terms(self) -> Terms:
        """Return the terms on which this task buys."""
        return Terms(
            durable=self.durable,
            on_ambiguous_submit=self.on_ambiguous_submit,
            has_budget=self._has_budget,
            max_cost=self.max_cost,
            check_balance=self.check_balance,
            calls_airflow=self._calls_airflow,
            callback_url=self.callback_url,
        )

    def _list_request_fields(self) -> dict[str, Any]:
        # The address at which Airflow is called is made right before the submission, and never kept here.
        request_type = ASYNC if self._calls_airflow else self.request_type
        return {name: getattr(self, name) for name in _TEMPLATED_FIELDS} | {"request_type": request_type}


class SeedreamSubmitOperator(SeedreamRequestOperator):
    """Submits a generation and returns its taskId; pair it with the sensor and the download operator.

    Pushes to XCom: ``return_value``, the API's taskId; ``submission``, what was bought
    (:meth:`~airflow_provider_seedream.apixo.records.Submission.to_json`: model, resolution, created_at,
    requested, charged_usd, size, request, ...), which the sensor finds by itself.

    A retry returns the task that an earlier try has bought, unless that one failed; see ``durable``.

    :raises NotChargedError: it was refused or never arrived; nothing was charged.
    :raises AmbiguousSubmitError: the answer was lost; a charge may have happened.
    """

    operator_extra_links = (SeedreamGalleryLink(),)
    _waits_itself = False

    def execute(self, context: Context) -> str:
        """Submit, unless an earlier try did; this spends money."""
        from airflow_provider_seedream.worker.generate import submit

        return submit(self, context)


class SeedreamDownloadOperator(UsesSeedreamHook, BaseOperator):
    """Saves the images of a finished task to a destination, each verified before it becomes visible.

    Give exactly one of ``result``, ``seedream_task_id`` and ``urls``. Running it again fetches nothing that
    is already there and intact.

    Returns (XCom) the :class:`~airflow_provider_seedream.result.Result`, with what was saved.

    :param result: what the sensor returned, usually ``wait.output``. (templated)
    :param seedream_task_id: taskId of a finished task. (templated)
    :param urls: plain URLs of images. (templated)
    :param destination: folder as an ``ObjectStoragePath`` or its string, such as
        ``s3://aws_default@bucket/prefix`` or ``file:///data/images``. (templated)
    :param storage_conn_id: connection of the destination, where the path names none. (templated)
    :param filename: template of the file names without extension; ``{seedream_task_id}``, ``{fingerprint}``
        (of the request, where it is known) and ``{index}`` are filled in, the extension follows the image's
        true format. (templated)
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
    operator_extra_links = (SeedreamGalleryLink(), SeedreamResultLink())

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
        with refuse_for_good():
            self._check_sources()
            check_destination(destination)
            check_filename(filename, has_fingerprint=urls is None)

    def _check_sources(self) -> None:
        sources = [name for name in ("result", "seedream_task_id", "urls") if getattr(self, name) is not None]
        if len(sources) != 1:
            rule = "exactly one of result, seedream_task_id and urls says what to download"
            remedy = "Pass the sensor's output as result, a taskId, or a list of URLs."
            raise InvalidRequestError([Problem("result", ", ".join(sources) or "None", rule, remedy)])

    def execute(self, context: Context) -> dict[str, Any]:
        """Fetch, verify and place the images, then the manifest."""
        from airflow_provider_seedream.worker.download import download

        return download(self, context)


class SeedreamGenerateOperator(SeedreamRequestOperator):
    """Submits, waits without a worker slot, and saves the images: the whole job in one task.

    Returns (XCom) the :class:`~airflow_provider_seedream.result.Result`. Pushes ``submission`` as soon as the
    task is accepted.

    A retry carries on with what was bought: it waits on, or delivers without a new charge; only what APIXO
    reports as failed (and refunds) is submitted anew. Where no record survives a retry (Airflow before 3.3,
    or ``durable=False``), what goes wrong after the purchase ends the task, and the error says how to finish
    the job at no cost.

    :param destination: folder for the images, checked before money is spent; ``None`` returns URLs only.
        (templated)
    :param storage_conn_id: connection of the destination, where the path names none. (templated)
    :param filename: template of the file names, as for the download operator. (templated)
    :param generation_timeout: seconds to wait for the result.
    :param first_poll: seconds from the submission to the first poll; ``None`` follows the model
        (2K: 20, 4K: 30).
    :param poll_interval: seconds between two polls; ``None`` follows the model (2K: 3-5, 4K: 5), or is 60
        while a callback to Airflow is expected.
    :param deferrable: wait in the triggerer; ``False`` waits in the worker.
    :param wait_for_completion: ``False`` ends right after the submission and returns ``submission``; only
        with a ``callback_url`` of your own, where the result goes, and without a destination.
    :param min_images: fewer delivered images than this fail the task; those that came are saved.
    :param on_partial: where images are missing, ``accept`` what came, or ``top_up``: buy just the missing
        ones, within ``max_cost``, at most three times. A connected set (``auto``) is never topped up.
    :param if_exists: where the destination holds finished images of the very same request, ``replace`` buys
        new ones, ``reuse`` returns them at no cost if they are intact, ``fail`` ends the task; also when the
        task was cleared.
    :param retryable_fail_codes: the API's failCodes that a retry may help, in place of the built-in table.
    :raises SeedreamError: see the three operators that this one replaces.
    """

    template_fields: Sequence[str] = (
        *SeedreamRequestOperator.template_fields,
        "destination",
        "storage_conn_id",
        "filename",
    )
    ui_color = "#e3e3f5"
    operator_extra_links = (SeedreamGalleryLink(), SeedreamResultLink())

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
        wait_for_completion: bool = True,
        min_images: int = 1,
        on_partial: str = "accept",
        if_exists: str = "replace",
        retryable_fail_codes: Collection[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self.storage_conn_id = storage_conn_id
        self.filename = filename
        self.deferrable = deferrable
        self.wait_for_completion = wait_for_completion
        self.min_images = min_images
        self.on_partial = on_partial
        self.if_exists = if_exists
        self.retryable_fail_codes = retryable_fail_codes
        # Decided here: a template that renders to nothing is a mistake, not a wish for URLs only.
        self.saves_images = destination is not None
        with refuse_for_good():
            self.generation_timeout = read_seconds("generation_timeout", generation_timeout)
            self.first_poll = read_optional_seconds("first_poll", first_poll, zero_allowed=True)
            self.poll_interval = read_optional_seconds("poll_interval", poll_interval)
            if self.saves_images:
                check_destination(destination)
            self._check_wait()
            check_choice("on_partial", on_partial, ("accept", "top_up"))
            check_choice(
                "if_exists", if_exists, ("replace", "reuse", "fail") if self.saves_images else ("replace",)
            )
            read_fail_codes("retryable_fail_codes", retryable_fail_codes)
            counted = "max_images" not in self._templated_fields
            check_image_count("min_images", min_images, self.max_images if counted else MOST_IMAGES)
            check_filename(filename, self.max_images if self.saves_images and counted else None)

    def _check_wait(self) -> None:
        if self._calls_airflow and not self.deferrable:
            rule = "only a deferred task can be resumed by a callback"
            remedy = "Leave deferrable=True, or use request_type='async'."
            raise InvalidRequestError([Problem("deferrable", "False", rule, remedy)])
        if self.wait_for_completion:
            return
        if self.callback_url is None:
            rule = "nobody would learn of the result"
            remedy = "Give callback_url with request_type='callback', or use SeedreamSubmitOperator."
            raise InvalidRequestError([Problem("wait_for_completion", "False", rule, remedy)])
        about_images = {"destination": None, "min_images": 1, "on_partial": "accept"}
        given = [name for name, default in about_images.items() if getattr(self, name) != default]
        if given:
            rule = "there are no images yet when a task does not wait for them"
            remedy = "Leave it out, or wait_for_completion=True."
            raise InvalidRequestError(
                [Problem(name, show_value(str(getattr(self, name))), rule, remedy) for name in given]
            )

    def execute(self, context: Context) -> dict[str, Any]:
        """Check everything that is free, submit unless an earlier try did, and wait."""
        from airflow_provider_seedream.worker import generate

        return generate.generate(self, context)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Resume with the trigger's event, or by a callback: conclude and save."""
        from airflow_provider_seedream.worker import generate

        return generate.resume(self, context, event)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; where the trigger was lost, what is left of the wait is waited for here."""
        if next_method != DEFERRAL_FAILED:
            return super().resume_execution(next_method, next_kwargs, context)
        from airflow_provider_seedream.worker import generate

        return generate.resume_without_trigger(self, context, next_kwargs)

    def make_terms(self) -> Terms:
        """Return the terms on which this task buys."""
        codes = read_fail_codes("retryable_fail_codes", self.retryable_fail_codes)
        return replace(super().make_terms(), retryable_codes=codes)

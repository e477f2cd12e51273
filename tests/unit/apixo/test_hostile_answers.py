"""Whatever bytes come back, every reader gives a result or a documented error.

The bodies are the vendor page's own examples, mutated; see ``mutations``. ``make test`` tries some thousands;
``pytest -m long tests/unit/apixo/test_hostile_answers.py`` tries ``SEEDREAM_HOSTILE_BODIES`` (default 5000)
with every reader. Each run ends by telling how many different ones it tried.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_seedream.apixo import exchange
from airflow_provider_seedream.apixo.answers import (
    MAX_RETRY_AFTER,
    Reply,
    read_balance,
    read_retry_after,
    read_status,
    read_submission,
)
from airflow_provider_seedream.apixo.backoff import MAX_BACKOFF
from airflow_provider_seedream.apixo.exchange import MAX_ATTEMPTS, Exchange, Send, Sleep, Timing
from airflow_provider_seedream.apixo.model import Pace
from airflow_provider_seedream.apixo.records import Submission
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.apixo.status import MAX_TASK_ID, TaskStatus
from airflow_provider_seedream.apixo.verdict import Verdict, make_task_failed_error
from airflow_provider_seedream.apixo.watch import Watch
from airflow_provider_seedream.errors import (
    AmbiguousSubmitError,
    NotChargedError,
    SeedreamError,
    UnreadableAnswerError,
)
from airflow_provider_seedream.purchases.journal import Intent, Journal, is_cleared
from airflow_provider_seedream.storage.manifest import Manifest
from tests.support.manifests import MANIFEST
from tests.support.vendor_page import EXAMPLES
from tests.unit.apixo.mutations import HTTP_STATUSES, mutated, retry_afters

NOW = 1_767_965_610.0
TASK_ID = "task_12345678"
MAX_MESSAGE = 4000
MANY = int(os.environ.get("SEEDREAM_HOSTILE_BODIES", "5000"))

ANSWERS = [
    *(path.read_text() for path in sorted(EXAMPLES.glob("status_*.json"))),
    *((EXAMPLES / f"{name}.json").read_text() for name in ("submit_response", "callback_success")),
    '{"code": 200, "message": "success", "data": 74.8700}',
    '{"code": 400, "message": "Invalid request", "data": {"error": "Missing required field: input.prompt"}}',
]
"""The answers of the vendor's pages."""

_tried: dict[str, set[int]] = defaultdict(set)


@pytest.fixture(scope="module", autouse=True)
def _tell_how_many(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    number = len(set().union(*_tried.values()))
    each = ", ".join(f"{len(bodies)} {name}" for name, bodies in _tried.items())
    plugins = request.config.pluginmanager
    with plugins.getplugin("capturemanager").global_and_fixture_disabled():
        plugins.getplugin("terminalreporter").write_line(f"\n{number} different inputs tried: {each}")


def try_many(name: str, number: int, inputs: st.SearchStrategy[Any], check: Callable[[Any], None]) -> None:
    """Check many inputs, and count the different ones."""

    @settings(max_examples=number)
    @given(inputs)
    def each(one: Any) -> None:
        _tried[name].add(hash(repr(one)))
        check(one)

    each()


def number_of_inputs(few: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("number", [few, pytest.param(MANY, marks=pytest.mark.long)])


class TestAnswers:
    @number_of_inputs(1500)
    def test_of_any_kind_are_read_or_refused(self, number: int) -> None:
        try_many("answers", number, replies(), self.check)

    def check(self, reply: Reply) -> None:
        self.check_submission(reply)
        self.check_status(reply)
        self.check_balance(reply)

    def check_submission(self, reply: Reply) -> None:
        outcome = read_submission(reply, NOW)
        body = envelope_of(reply.body)
        code: int = body["code"] if body else 0
        task_id = task_id_of(body)
        answered = 200 <= reply.status < 300
        if body is None and (answered or reply.status >= 500):
            assert type(outcome) is AmbiguousSubmitError
        if isinstance(outcome, str):
            assert answered
            assert 200 <= code < 300
            assert outcome == task_id
        elif isinstance(outcome, NotChargedError):
            assert not task_id
            assert code >= 300 or (300 <= reply.status < 500 and reply.status != 408)
            assert_fit(outcome)
        else:
            assert type(outcome) is AmbiguousSubmitError
            assert_fit(outcome)
        if answered and code == 200 and task_id:
            assert outcome == task_id

    def check_status(self, reply: Reply) -> None:
        outcome = read_status(reply, TASK_ID, NOW)
        if isinstance(outcome, SeedreamError):
            assert not isinstance(outcome, NotChargedError)
            assert_fit(outcome)
            return
        assert outcome.task_id == TASK_ID
        assert bool(outcome.urls) == outcome.succeeded
        assert len(outcome.state) <= 100
        event = as_stored(outcome.to_json())
        assert TaskStatus.from_json(event) == outcome
        assert_fit(make_task_failed_error(outcome))

    def check_balance(self, reply: Reply) -> None:
        outcome = read_balance(reply, NOW)
        if isinstance(outcome, SeedreamError):
            assert isinstance(outcome, NotChargedError)
            assert_fit(outcome)
            return
        assert isinstance(outcome, Decimal)
        assert len(f"{outcome} {outcome:.2f}") < 100


def envelope(data: str, code: str = "200") -> str:
    return f'{{"code": {code}, "message": "", "data": {data}}}'


ENDLESS = f'"{"x" * 900_000}"'
FOUND = {
    "endless id": envelope(f'{{"taskId": {ENDLESS}}}'),
    "endless id in a refusal": envelope(f'{{"taskId": {ENDLESS}}}', "500"),
    "id that no URL can carry": envelope(r'{"taskId": "\ud800"}'),
    "id that no table can hold": envelope(r'{"taskId": "a\u0000"}'),
    "endless code": envelope("null", "2" + "0" * 4000),
    "endless negative code": envelope("null", "-2" + "0" * 4000),
    "unprintable words": envelope(r'{"error": "\u0000\ud800\u001b"}', "429"),
    "endless state": envelope(f'{{"state": {ENDLESS}}}'),
    "unprintable state": envelope(r'{"state": "\u0000"}'),
    "endless failure": envelope(f'{{"state": "failed", "failCode": {ENDLESS}, "failMsg": {ENDLESS}}}'),
    "unprintable URL": envelope(r'{"state": "success", "resultJson": {"resultUrls": ["a\u0000"]}}'),
    "balance of a gigabyte": envelope('"1e999999999"'),
    "endless balance": envelope(f'"1.{"1" * 900_000}"'),
}


class TestWhatTheMutationsFound:
    """Each of these was an exception, an endless message, or text that no database takes."""

    @pytest.mark.parametrize("body", FOUND.values(), ids=FOUND)
    def test_is_read_or_refused(self, body: str) -> None:
        TestAnswers().check(Reply(200, {}, body.encode()))

    @pytest.mark.parametrize("header", ["9" * 5000, "Fri, 31 Dec 9999 23:59:59 GMT"])
    def test_a_retry_after_of_millennia_is_a_day(self, header: str) -> None:
        assert read_retry_after(header, NOW) == MAX_RETRY_AFTER


class TestExchanges:
    """What is done after a hostile answer, when every answer is the same."""

    @number_of_inputs(300)
    def test_a_submission_ends_and_is_not_repeated_where_it_may_have_bought(self, number: int) -> None:
        request = GenerateRequest(prompt="a fox")

        def check(reply: Reply) -> None:
            run = Run(lambda timing, report: exchange.submit(request, timing=timing, report=report), reply)
            assert run.sent <= (1 if isinstance(run.outcome, AmbiguousSubmitError) else MAX_ATTEMPTS)
            if isinstance(run.outcome, str):
                url = next(exchange.fetch_status(run.outcome, "m", timing=Timing(), report=print))
                assert isinstance(url, Send)
                assert url.path.isascii()

        try_many("submissions", number, replies(), check)

    @number_of_inputs(200)
    def test_a_watch_ends_by_its_deadline(self, number: int) -> None:
        deadline = NOW + 400

        def check(reply: Reply) -> None:
            watch = Watch.start(
                TASK_ID, Pace(60, 60, 60), created_at=None, deadline=deadline, now=NOW, uniform=highest
            )
            run = Run(
                lambda timing, report: exchange.watch([watch], "m", timing=timing, report=report), reply
            )
            assert watch.outcome is not None
            assert run.now <= deadline
            as_stored(Verdict.of(watch).to_json())

        try_many("watches", number, replies(), check)


class TestRetryAfter:
    @number_of_inputs(1000)
    def test_of_any_text_is_seconds_or_nothing(self, number: int) -> None:
        def check(header: str) -> None:
            seconds = read_retry_after(header, NOW)
            assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER

        try_many("Retry-After headers", number, retry_afters(), check)


class TestJson:
    @number_of_inputs(300)
    def test_of_any_kind_is_a_status_or_the_documented_error(self, number: int) -> None:
        """A callback's ``data`` comes from anybody who knows its URL."""

        def check(body: bytes) -> None:
            try:
                data = json.loads(body)["data"]
            except (ValueError, RecursionError, LookupError, TypeError):
                data = body
            try:
                status = TaskStatus.from_data(data, TASK_ID)
            except UnreadableAnswerError as error:
                assert_fit(error)
            else:
                as_stored(status.to_json())

        try_many("callbacks", number, mutated(ANSWERS), check)


class TestManifests:
    """Files in a bucket to which others may write."""

    @number_of_inputs(300)
    def test_of_any_kind_are_read_or_refused(self, number: int) -> None:
        def check(body: bytes) -> None:
            reason = ""
            try:
                assert Manifest.from_json(body).to_json()
            except ValueError as error:
                reason = str(error)
            assert len(reason) < MAX_MESSAGE

        try_many("manifests", number, mutated([MANIFEST.to_json()]), check)


SUBMISSIONS = st.builds(
    Submission,
    seedream_task_id=st.text(),
    price_per_image=st.decimals(0, 10, places=4),
    submitted_at=st.none() | st.integers(0, 10**11).map(float),
    requested=st.none() | st.integers(1, 10),
    size=st.none() | st.tuples(st.integers(1, 9999), st.integers(1, 9999)),
    request=st.none() | st.dictionaries(st.text(), st.none() | st.text() | st.integers()),
    fingerprint=st.none() | st.text(),
)


class TestOwnRecords:
    """What this provider wrote reads back as it was; nothing is promised of what it cannot have written.

    A journal is the exception: reading it wrongly would pay twice, so what is none says so.
    """

    @given(SUBMISSIONS)
    def test_a_submission(self, submission: Submission) -> None:
        assert Submission.from_json(json.loads(json.dumps(submission.to_json()))) == submission

    @number_of_inputs(300)
    def test_a_journal_that_was_tampered_with_is_read_or_refused(self, number: int) -> None:
        submission = Submission(seedream_task_id=TASK_ID, price_per_image=Decimal("0.035"), submitted_at=NOW)
        intent = Intent(fingerprint="f", at=NOW, charge=Decimal("0.07"), balance=Decimal(100))
        journal = Journal(max_tries=2, fingerprint="f", purchases=(submission,), intent=intent)

        def check(body: bytes) -> None:
            try:
                record = json.loads(body)
            except (ValueError, RecursionError):
                return
            assert isinstance(is_cleared(record, 3), bool)
            with suppress(ValueError):
                assert isinstance(Journal.from_json(record), Journal)

        assert Journal.from_json(json.loads(json.dumps(journal.to_json()))) == journal
        try_many("journals", number, mutated([json.dumps(journal.to_json())]), check)


# --- what every outcome must be -----------------------------------------------------------------------


def assert_fit(error: SeedreamError) -> None:
    """It can be shown, logged and stored, and Airflow can compute with it."""
    for text in (str(error), error.cause.meaning):
        assert 0 < len(text) <= MAX_MESSAGE
        assert_storable(text)
    assert 0 <= (getattr(error, "retry_after", None) or 0) <= MAX_RETRY_AFTER


def assert_storable(text: str) -> None:
    """PostgreSQL takes neither NUL nor lone surrogates."""
    assert "\0" not in text
    text.encode()


def as_stored(value: dict[str, Any]) -> dict[str, Any]:
    """Through JSON, as strict as a JSONB column."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    assert_storable(text)
    assert not re.search(r"(?<!\\)(\\\\)*\\u0000", text)
    stored: dict[str, Any] = json.loads(text)
    return stored


def envelope_of(body: bytes) -> dict[str, Any] | None:
    """APIXO's envelope in the words of the vendor's page, read independently of the client."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or type(code := value.get("code")) is not int or abs(code) > 99_999:
        return None
    return value


def task_id_of(body: dict[str, Any] | None) -> str | None:
    data = body.get("data") if body else None
    task_id = data.get("taskId") if isinstance(data, dict) else None
    usable = isinstance(task_id, str) and task_id.isprintable() and 0 < len(task_id) <= MAX_TASK_ID
    return task_id if usable else None


def highest(low: float, high: float) -> float:
    return high


class Run:
    """Performs an exchange in which every answer is the same, on a clock of its own."""

    def __init__(self, start: Callable[[Timing, Callable[[str], None]], Exchange[Any]], reply: Reply) -> None:
        self.now = NOW
        self.sent = 0
        self.outcome: Any = None
        steps = start(Timing(now=lambda: self.now, uniform=highest), self._report)
        answer: Reply | None = None
        try:
            while True:
                answer = self._perform(steps.send(answer), reply)
        except StopIteration as stop:
            self.outcome = stop.value
        except SeedreamError as error:
            assert_fit(error)
            self.outcome = error

    def _perform(self, step: Send | Sleep, reply: Reply) -> Reply | None:
        if isinstance(step, Send):
            self.sent += 1
            return reply
        assert 0 < step.seconds <= max(MAX_BACKOFF + 1, 400)
        self.now += step.seconds
        return None

    def _report(self, line: str) -> None:
        assert_storable(line)
        assert len(line) <= MAX_MESSAGE


def replies() -> st.SearchStrategy[Reply]:
    none: dict[str, str] = {}
    headers = st.just(none) | retry_afters().map(lambda text: {"retry-after": text})
    return st.builds(Reply, st.sampled_from(HTTP_STATUSES), headers, mutated(ANSWERS))

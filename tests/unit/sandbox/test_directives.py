"""The words in brackets that steer a task, and those that do not."""

from __future__ import annotations

import json

import pytest

from airflow_provider_seedream.sandbox.directives import Directives, read_directives, remove_directives
from airflow_provider_seedream.sandbox.envelope import RefusedCall
from airflow_provider_seedream.sandbox.tasks import FAIL_MESSAGES
from tests.unit.sandbox.users import Account, Clock, error_of, text_to_image


class TestDirectives:
    @pytest.mark.parametrize("code", [*FAIL_MESSAGES, "SomethingNew"])
    def test_a_task_fails_with_the_code_asked_for(self, account: Account, clock: Clock, code: str) -> None:
        task = account.submit(f"a fox [[fail:{code}]]")
        clock.advance(60)
        status = account.status(task)
        assert (status["state"], status["failCode"]) == ("failed", code)
        assert status["failMsg"]
        assert "resultJson" not in status

    def test_a_part_is_delivered(self, account: Account, clock: Clock) -> None:
        task = account.submit("a fox [[deliver:2]]", max_images=5)
        clock.advance(60)
        assert len(account.urls(task)) == 2

    def test_no_more_is_delivered_than_was_asked_for(self, account: Account, clock: Clock) -> None:
        task = account.submit("a fox [[deliver:9]]", max_images=3)
        clock.advance(60)
        assert len(account.urls(task)) == 3

    def test_a_success_can_be_empty(self, account: Account, clock: Clock) -> None:
        task = account.submit("a fox [[deliver:0]]", max_images=3)
        clock.advance(60)
        assert json.loads(account.status(task)["resultJson"]) == {"resultUrls": []}
        assert account.balance() == 100

    def test_an_unknown_state_is_shown_in_place_of_processing(self, account: Account, clock: Clock) -> None:
        task = account.submit("a fox [[state:processing_r2]]")
        assert account.status(task)["state"] == "pending"
        clock.advance(15)
        assert account.status(task)["state"] == "processing_r2"
        clock.advance(45)
        assert account.status(task)["state"] == "success"

    def test_the_generation_time_is_set(self, account: Account, clock: Clock) -> None:
        task = account.submit("a fox [[seconds:200]]")
        clock.advance(199)
        assert account.status(task)["state"] == "processing"
        clock.advance(2)
        assert account.status(task)["costTime"] == 200_000

    def test_other_words_in_brackets_are_text(self, account: Account, clock: Clock) -> None:
        task = account.submit("a sign that says [[open]] and [[hours:9-5]]")
        clock.advance(60)
        assert account.status(task)["state"] == "success"

    @pytest.mark.parametrize(
        "directive", ["deliver:x", "deliver:-1", "deliver", "seconds:nan", "fail:", "jpeg:1"]
    )
    def test_a_directive_that_cannot_be_read_is_refused_not_ignored(
        self, account: Account, directive: str
    ) -> None:
        answer = account.post({"input": text_to_image(f"a fox [[{directive}]]")})
        assert f"[[{directive.partition(':')[0]}]] takes" in error_of(answer, 400)


class TestAPromptIsRead:
    @pytest.mark.parametrize(
        ("words", "directives"),
        [
            ("", Directives()),
            ("[[fail:Upload error]]", Directives(fail="Upload error")),
            ("[[deliver:2]]", Directives(deliver=2)),
            ("[[state:processing_r2]]", Directives(state="processing_r2")),
            ("[[seconds:0.5]]", Directives(seconds=0.5)),
            ("[[expire]] [[jpeg]]", Directives(expire=True, jpeg=True)),
            ("[[callback:lost]]", Directives(deliveries=0)),
            ("[[callback:twice]]", Directives(deliveries=2)),
            ("[[callback:code200]]", Directives(failure_code=200)),
            ("[[callback_after:5]]", Directives(callback_after=5)),
        ],
    )
    def test_into_what_becomes_of_its_task(self, words: str, directives: Directives) -> None:
        assert read_directives(f"a fox {words} in snow", Directives()) == directives

    def test_over_the_command_line(self) -> None:
        defaults = Directives(fail="Timeout", deliver=1)
        assert read_directives("a fox", defaults) == defaults
        assert read_directives("a fox [[fail:StreamError]]", defaults).fail == "StreamError"
        # What is to be delivered does not fail.
        assert read_directives("a fox [[deliver:3]]", defaults) == Directives(deliver=3)

    def test_to_its_end_where_two_contradict(self) -> None:
        assert read_directives("[[deliver:2]] [[deliver:4]]", Directives()).deliver == 4
        assert read_directives("[[deliver:2]] [[fail:Timeout]]", Directives()).fail == "Timeout"
        assert read_directives("[[fail:Timeout]] [[deliver:2]]", Directives()).fail is None

    @pytest.mark.parametrize("words", ["[[deliver:100]]", "[[seconds:-1]]", "[[seconds:1e3]]", "[[state:]]"])
    def test_or_refused(self, words: str) -> None:
        with pytest.raises(RefusedCall, match="takes") as refused:
            read_directives(words, Directives())
        assert refused.value.code == 400


class TestWhatPeopleSee:
    @pytest.mark.parametrize(
        ("prompt", "shown"),
        [
            ("a fox [[deliver:2]] in snow [[jpeg]]", "a fox in snow"),
            ("a sign: [[open]]", "a sign: [[open]]"),
            ("[[jpeg]]", "[[jpeg]]"),
        ],
    )
    def test_is_the_prompt_without_directives(self, prompt: str, shown: str) -> None:
        assert remove_directives(prompt) == shown

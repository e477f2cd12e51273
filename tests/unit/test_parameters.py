"""Parameters are read into what they mean, or refused by their name before anything is sent."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pendulum
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_seedream.errors import InvalidRequestError
from airflow_provider_seedream.parameters import (
    check_callbacks_possible,
    check_choice,
    check_destination,
    check_filename,
    check_image_count,
    check_task_id,
    is_templated,
    parse_rendered,
    read_fail_codes,
    read_money,
    read_optional_seconds,
    read_rendered,
    read_seconds,
    read_url_list,
    refuse_for_good,
)

REFERENCE = "https://example.com/reference.png"


class TestRenderedTemplates:
    @pytest.mark.parametrize(
        ("field", "rendered", "value"),
        [
            ("max_images", "3", 3),
            ("max_images", " 3\n", 3),
            ("max_images", 3, 3),
            ("prompt", 1984, "1984"),
            ("image_urls", f"['{REFERENCE}']", [REFERENCE]),
            ("image_urls", f'["{REFERENCE}"]', [REFERENCE]),
            ("image_urls", [REFERENCE], [REFERENCE]),
            ("max_images", "three", "three"),
        ],
    )
    def test_text_becomes_the_type_of_its_field(self, field: str, rendered: Any, value: Any) -> None:
        assert read_rendered({field: rendered}, frozenset({field})) == {field: value}

    def test_a_field_without_a_template_is_left_alone(self) -> None:
        assert read_rendered({"max_images": "3"}, frozenset()) == {"max_images": "3"}

    @pytest.mark.parametrize("nothing", ["", "  ", None, "None"])
    @pytest.mark.parametrize("field", ["prompt", "image_urls", "aspect_ratio", "max_images"])
    def test_a_template_that_renders_to_nothing_is_refused_by_name(self, field: str, nothing: Any) -> None:
        with pytest.raises(InvalidRequestError, match=f"{field}=.*rendered to nothing"):
            read_rendered({field: nothing}, frozenset({field}))


class TestReferencesThatGotLost:
    """They must not silently buy a picture of another kind."""

    @pytest.mark.parametrize("rendered", ["[]", [], ()])
    def test_an_empty_list_is_refused(self, rendered: Any) -> None:
        with pytest.raises(InvalidRequestError, match="empty list.*Give mode='text-to-image'"):
            read_rendered({"image_urls": rendered, "mode": None}, frozenset({"image_urls"}))

    def test_unless_the_mode_says_that_there_may_be_none(self) -> None:
        fields = {"image_urls": "[]", "mode": "text-to-image"}
        assert read_rendered(fields, frozenset({"image_urls"})) == {"image_urls": [], "mode": "text-to-image"}


class TestWhetherAValueIsStillATemplate:
    @pytest.mark.parametrize(
        "value",
        [
            "{{ params.prompt }}",
            "a {% if x %}fox{% endif %}",
            "prompt.txt",
            ["https://x.example", "{{ y }}"],
            SimpleNamespace(resolve=lambda context: "a fox"),
        ],
    )
    def test_it_is(self, value: Any) -> None:
        assert is_templated(value, (".txt",))

    def test_it_is_not(self, tmp_path: Any) -> None:
        for value in ("a fox", "{curly}", 3, None, ["a"], tmp_path, {"resolve": 1}):
            assert not is_templated(value, (".txt",))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('["a", null]', ["a", None]),
        ("['a', None]", ["a", None]),
        (" {'a': 1} ", {"a": 1}),
        ("a fox", "a fox"),
        ("[" * 100_000, "[" * 100_000),
    ],
    ids=["json", "python", "white space", "text", "endless"],
)
def test_a_rendered_list_or_dict_is_read_in_either_notation(text: str, value: Any) -> None:
    assert parse_rendered(text) == value


class TestDurations:
    @pytest.mark.parametrize("value", [90, 90.0, timedelta(minutes=1.5), pendulum.duration(minutes=1.5)])
    def test_are_seconds_or_any_timedelta(self, value: Any) -> None:
        assert read_seconds("timeout", value) == 90

    @pytest.mark.parametrize("value", [0, -1, timedelta(0), float("nan"), float("inf"), True, "60", None])
    def test_what_is_none_is_refused_by_name(self, value: Any) -> None:
        with pytest.raises(
            InvalidRequestError, match=r"^.*timeout=.*must be seconds, above 0, or a timedelta"
        ):
            read_seconds("timeout", value)

    def test_may_be_zero_where_that_makes_sense(self) -> None:
        assert read_seconds("first_poll", 0, zero_allowed=True) == 0
        with pytest.raises(InvalidRequestError, match="0 or more"):
            read_seconds("first_poll", -1, zero_allowed=True)

    def test_may_be_left_out_where_that_makes_sense(self) -> None:
        assert read_optional_seconds("poll_interval", None) is None
        assert read_optional_seconds("poll_interval", timedelta(seconds=5)) == 5


class TestMoney:
    @pytest.mark.parametrize(("value", "amount"), [(1, "1"), (0.07, "0.07"), (" 0.035 ", "0.035")])
    def test_is_exact(self, value: Any, amount: str) -> None:
        assert read_money("max_cost", value) == Decimal(amount)

    def test_may_be_left_out(self) -> None:
        assert read_money("max_cost", None) is None

    @pytest.mark.parametrize("value", [0, -1, "", "much", "NaN", "Infinity", True, [1]])
    def test_what_is_none_is_refused_by_name(self, value: Any) -> None:
        with pytest.raises(InvalidRequestError, match="max_cost=.*USD above 0"):
            read_money("max_cost", value)


class TestWordsNumbersAndLists:
    def test_one_of_a_few_words(self) -> None:
        check_choice("on_partial", "top_up", ("accept", "top_up"))
        with pytest.raises(InvalidRequestError, match="on_partial='fail': must be one of 'accept', 'top_up'"):
            check_choice("on_partial", "fail", ("accept", "top_up"))

    @pytest.mark.parametrize("value", [0, 4, "2", 2.0, True, None])
    def test_a_number_of_images_is_no_more_than_are_ordered(self, value: Any) -> None:
        check_image_count("min_images", 3, 3)
        with pytest.raises(InvalidRequestError, match="whole number from 1 to 3"):
            check_image_count("min_images", value, 3)

    def test_fail_codes_lose_their_spelling(self) -> None:
        codes = read_fail_codes("retryable_fail_codes", ["UPLOAD_ERROR", "Timeout", "upload error"])
        assert codes == {"uploaderror", "timeout"}
        assert read_fail_codes("retryable_fail_codes", []) == frozenset()
        assert read_fail_codes("retryable_fail_codes", None) is None

    @pytest.mark.parametrize("value", ["Timeout", 7, [7], [""], ["--"]])
    def test_what_is_no_list_of_fail_codes_is_refused(self, value: Any) -> None:
        with pytest.raises(InvalidRequestError, match="must be a list or set of failCodes"):
            read_fail_codes("retryable_fail_codes", value)

    @pytest.mark.parametrize("value", [[], "https://x.example/a.png", ["  "], [None], None])
    def test_what_is_no_list_of_urls_is_refused(self, value: Any) -> None:
        assert read_url_list(("https://x.example/a.png",), "urls") == ["https://x.example/a.png"]
        with pytest.raises(InvalidRequestError, match="urls=.*non-empty list of URLs"):
            read_url_list(value, "urls")


class TestTheTaskId:
    @pytest.mark.parametrize("value", ["", " ", "None", None, 7, {"seedream_task_id": "t1"}])
    def test_that_is_none_is_refused_before_the_api_is_asked(self, value: Any) -> None:
        assert check_task_id("t1") == "t1"
        with pytest.raises(InvalidRequestError, match="is no taskId. Pass the Submit operator's output"):
            check_task_id(value)


class TestWhereToAndUnderWhichName:
    @pytest.mark.parametrize("destination", ["s3://bucket/prefix", "file:///data", "{{ params.where }}"])
    def test_a_location_or_a_template_is_taken(self, destination: str) -> None:
        check_destination(destination)

    @pytest.mark.parametrize("destination", ["", 7, "s3://"])
    def test_what_can_name_no_location_is_refused(self, destination: Any) -> None:
        with pytest.raises(InvalidRequestError, match="destination="):
            check_destination(destination)

    def test_a_file_name_is_checked_unless_it_is_a_template(self) -> None:
        check_filename("{{ params.name }}")
        with pytest.raises(InvalidRequestError, match="filename="):
            check_filename("../{index}")


class TestCallbacks:
    def test_need_the_record_of_the_purchase(self) -> None:
        check_callbacks_possible(durable=True, waits_itself=True)
        with pytest.raises(InvalidRequestError, match="durable=False"):
            check_callbacks_possible(durable=False, waits_itself=True)

    def test_need_a_record_that_the_api_server_can_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__WORKERS__STATE_STORE_BACKEND", "elsewhere.Backend")
        with pytest.raises(InvalidRequestError, match="the api-server could not read the record"):
            check_callbacks_possible(durable=True, waits_itself=True)

    def test_need_a_record_that_outlasts_the_task_that_bought(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__STATE_STORE__CLEAR_ON_SUCCESS", "True")
        check_callbacks_possible(durable=True, waits_itself=True)
        with pytest.raises(InvalidRequestError, match="clear_on_success"):
            check_callbacks_possible(durable=True, waits_itself=False)


def test_a_refusal_of_a_constructor_is_not_tried_again() -> None:
    with pytest.raises(AirflowFailException, match="timeout=") as caught, refuse_for_good():
        read_seconds("timeout", 0)
    assert isinstance(caught.value, InvalidRequestError)

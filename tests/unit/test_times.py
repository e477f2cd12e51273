"""Epoch seconds become what people read, and what they write becomes epoch seconds."""

from __future__ import annotations

from datetime import timedelta

import pendulum
import pytest

from airflow_provider_seedream.times import (
    describe_distance,
    describe_moment,
    from_http_date,
    from_iso,
    to_iso,
    to_seconds,
)

MOMENT = 1_767_965_610.0


class TestADuration:
    @pytest.mark.parametrize(
        "duration", [90.0, timedelta(minutes=1.5), pendulum.duration(minutes=1, seconds=30)]
    )
    def test_may_be_seconds_or_a_timedelta_of_any_maker(self, duration: float | timedelta) -> None:
        assert to_seconds(duration) == 90


class TestIso:
    def test_is_utc_and_comes_back_to_the_microsecond(self) -> None:
        assert to_iso(MOMENT) == "2026-01-09T13:33:30+00:00"
        assert from_iso(to_iso(MOMENT + 0.25)) == MOMENT + 0.25

    def test_of_nothing_is_nothing(self) -> None:
        assert to_iso(None) is None
        assert from_iso(None) is None

    @pytest.mark.parametrize(
        "text", ["2026-01-09T13:33:30", "2026-01-09T13:33:30Z", "2026-01-09T14:33:30+01:00"]
    )
    def test_is_read_in_any_zone_and_without_one_as_utc(self, text: str) -> None:
        assert from_iso(text) == MOMENT

    @pytest.mark.parametrize("text", ["soon", "P1D", "2026-13-01"])
    def test_is_refused_where_it_is_no_date(self, text: str) -> None:
        with pytest.raises(ValueError, match=r".+"):
            from_iso(text)


class TestAnHttpDate:
    @pytest.mark.parametrize(
        "text",
        [
            "Fri, 09 Jan 2026 13:33:30 GMT",
            "Friday, 09-Jan-26 13:33:30 GMT",
            "Fri Jan  9 13:33:30 2026",
        ],
    )
    def test_is_read_in_all_three_forms(self, text: str) -> None:
        assert from_http_date(text) == MOMENT

    def test_is_refused_where_it_is_none(self) -> None:
        with pytest.raises(ValueError, match=r".+"):
            from_http_date("soon")


class TestForAPerson:
    def test_a_moment_is_told_to_the_second(self) -> None:
        assert describe_moment(MOMENT + 0.9) == "2026-01-09T13:33:30+00:00"

    @pytest.mark.parametrize(
        ("seconds", "words"),
        [
            (15 * 86400 - 30, "in 14 days"),
            (86400, "in 1 day"),
            (-40 * 86400, "40 days ago"),
            (-7200, "2 hours ago"),
            (-60, "1 minute ago"),
        ],
    )
    def test_a_distance_is_told_in_words(self, seconds: int, words: str) -> None:
        assert describe_distance(MOMENT + seconds, MOMENT) == words

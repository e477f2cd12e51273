"""What is kept of purchases between two tries, and what the next try does with it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_seedream.apixo.records import Submission
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.purchases.journal import Intent, Journal, NextAction, is_cleared

PRICE = Decimal("0.035")
REQUEST = GenerateRequest(prompt="a fox", max_images=2)
MAIN = Submission.of(REQUEST, "t1", price_per_image=PRICE, now=1_767_965_610.5)
TOP_UP = Submission.of(REQUEST, "t2", price_per_image=PRICE, now=1_767_965_710.0)
INTENT = Intent(fingerprint="f", at=1_767_965_600.25, charge=Decimal("0.070"), balance=Decimal("9.93"))
EMPTY = Journal(max_tries=2, fingerprint="f")


def through_json(journal: Journal) -> Journal:
    return Journal.from_json(json.loads(json.dumps(journal.to_json())))


class TestTheRecord:
    @pytest.mark.parametrize(
        "journal",
        [
            EMPTY,
            EMPTY.intending(INTENT),
            EMPTY.intending(INTENT).record(MAIN),
            EMPTY.record(MAIN).intending(INTENT).written_off(),
            EMPTY.record(MAIN).without(["t1"], refunded=False),
        ],
    )
    def test_comes_back_as_it_was(self, journal: Journal) -> None:
        assert through_json(journal) == journal

    def test_holds_the_prompt_once(self) -> None:
        assert json.dumps(EMPTY.record(MAIN).record(TOP_UP).to_json()).count("a fox") == 1


class TestTheNextAction:
    @pytest.mark.parametrize(
        ("journal", "action"),
        [
            (EMPTY, NextAction.BUY),
            (EMPTY.intending(INTENT), NextAction.AMBIGUOUS),
            (EMPTY.intending(INTENT).withdrawn(), NextAction.BUY),
            (EMPTY.intending(INTENT).record(MAIN), NextAction.CARRY_ON),
            (EMPTY.record(MAIN).intending(INTENT), NextAction.CARRY_ON),
        ],
    )
    def test_for_the_same_request(self, journal: Journal, action: NextAction) -> None:
        assert journal.next_action("f") is action

    @pytest.mark.parametrize("journal", [EMPTY.intending(INTENT), EMPTY.record(MAIN)])
    def test_for_another_request_is_to_buy(self, journal: Journal) -> None:
        assert journal.next_action("another") is NextAction.BUY


class TestMoney:
    def test_of_a_lost_answer_is_not_forgotten(self) -> None:
        assert EMPTY.intending(INTENT).written_off().lost == Decimal("0.070")

    def test_of_what_is_no_longer_followed_neither(self) -> None:
        assert EMPTY.record(MAIN).without(["t1"], refunded=False).spent == Decimal("0.070")
        assert EMPTY.record(MAIN).without(["t1"], refunded=True).spent == 0

    def test_goes_along_to_another_request(self) -> None:
        journal = EMPTY.record(MAIN).intending(INTENT).for_request("g", Decimal("0.035"))
        assert (journal.spent, journal.lost, journal.purchases) == (Decimal("0.035"), Decimal("0.070"), ())


class TestOtherRecords:
    def test_name_what_was_intended(self) -> None:
        journal = EMPTY.intending(INTENT).with_purchases([MAIN, MAIN])
        assert (journal.purchases, journal.intent) == ((MAIN,), None)

    def test_that_name_nothing_new_change_nothing(self) -> None:
        journal = EMPTY.record(MAIN).intending(INTENT)
        assert journal.with_purchases([MAIN]) is journal


class TestAClear:
    @pytest.mark.parametrize(
        ("record", "cleared"),
        [
            ({"max_tries": 1}, True),
            ({"max_tries": 2}, False),
            ({"max_tries": 5}, True),
            ({}, False),
            ("nonsense", False),
            (None, False),
        ],
    )
    def test_shows_in_max_tries(self, record: Any, cleared: bool) -> None:
        assert is_cleared(record, 2) is cleared

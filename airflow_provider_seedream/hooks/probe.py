"""Tries a connection while a person waits: one free request, a firm limit of time, and plain words."""

from __future__ import annotations

import time
from dataclasses import replace
from decimal import Decimal
from queue import Empty, SimpleQueue
from threading import Thread

from airflow_provider_seedream.apixo.account import DEFAULT_BASE_URL, Account
from airflow_provider_seedream.apixo.answers import NoAnswer, Reply, read_balance, read_envelope
from airflow_provider_seedream.apixo.client import ApixoClient
from airflow_provider_seedream.apixo.exchange import BALANCE, Exchange
from airflow_provider_seedream.errors import Kind

TIMEOUT = 12.0
"""Seconds until the person gets an answer, whatever the network does."""

TestResult = tuple[bool, str]
"""The answer to a person: does the connection work, and what should be known about it."""


def probe(account: Account, *, timeout: float = TIMEOUT) -> TestResult:
    """Read the balance of an account, which costs nothing.

    :param timeout: seconds; the lookup of a name and the attempts at each address of a host can take far
        longer, so they go on in a thread that nobody waits for.
    """
    answers: SimpleQueue[Reply | NoAnswer] = SimpleQueue()
    bounded = replace(account, request_timeout=min(account.request_timeout, timeout))
    Thread(target=_ask, args=(bounded, answers), name="seedream-probe", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except Empty:
        answer = NoAnswer(delivered=False, detail=f"no answer within {timeout:g} s")
    return explain(answer, account.base_url, time.time())


def _ask(account: Account, answers: SimpleQueue[Reply | NoAnswer]) -> None:
    try:
        with ApixoClient(account) as client:
            answers.put(client.run(_ask_once()))
    except Exception as error:  # noqa: BLE001 - such as a proxy or certificate setting that makes no sense
        answers.put(NoAnswer(delivered=False, detail=f"{type(error).__name__}: {error}"))


def _ask_once() -> Exchange[Reply | NoAnswer]:
    answer = yield BALANCE
    return answer or NoAnswer(delivered=False, detail="nothing was sent")


def explain(answer: Reply | NoAnswer, base_url: str, now: float) -> TestResult:
    """Return what an answer, or none, says about a connection.

    :param now: epoch seconds.
    """
    if isinstance(answer, NoAnswer):
        remedy = "Check the base URL, and the way from this machine to it (DNS, firewall, proxy)."
        return False, f"{base_url} cannot be reached: {answer.detail}. {remedy}"
    balance = read_balance(answer, now)
    if isinstance(balance, Decimal):
        return True, f"Valid key, {balance:.2f} USD left."
    if read_envelope(answer) is None or balance.cause.kind is Kind.NOT_FOUND:
        remedy = f"Check the base URL; APIXO's own is {DEFAULT_BASE_URL}."
        return False, f"{base_url} answers, but not as APIXO does (HTTP {answer.status}). {remedy}"
    if balance.cause.kind is Kind.KEY:
        remedy = "Copy it again from your APIXO account."
        return False, f"The API key is not valid, {base_url} refuses it. {remedy}"
    return False, str(balance)

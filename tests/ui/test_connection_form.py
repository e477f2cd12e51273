"""A person sets up the connection in Airflow's own form, and the *Test* button says what is wrong with it."""

from __future__ import annotations

import json
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from airflow.sdk import Connection

from airflow_provider_seedream.apixo.account import Account
from airflow_provider_seedream.hooks.connection import read_account
from dev.airflow_api import StackError
from tests.support.airflow_world import KEY
from tests.ui.browser import Visits, expect
from tests.ui.connection_page import ConnectionPage
from tests.ui.site import ADMIN, Site

pytestmark = pytest.mark.long

BALANCE = re.compile(r"Valid key, \d+\.\d\d USD left\.")


@pytest.fixture
def connections(site: Site, visits: Visits) -> ConnectionPage:
    return ConnectionPage(visits.open(site, ADMIN, "/connections"))


@pytest.fixture
def conn_id(site: Site) -> Iterator[str]:
    """An id that no other test uses; its connection is gone afterwards."""
    conn_id = f"seedream_{secrets.token_hex(4)}"
    yield conn_id
    with suppress(StackError):
        site.world.stack.call_api("DELETE", f"/connections/{conn_id}")


def account_of(site: Site, conn_id: str, folder: Path) -> Account:
    """What a stored connection, key included, means to the hook."""
    exported = folder / "connections.json"
    site.world.stack.run_airflow("connections", "export", str(exported), "--file-format", "json")
    return read_account(Connection(conn_id=conn_id, **json.loads(exported.read_text())[conn_id]))


@contextmanager
def web_site(status: int, body: bytes) -> Iterator[str]:
    """A host that is not APIXO's; its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api/v1"
        server.shutdown()


class TestTheForm:
    def test_it_shows_what_applies_and_nothing_else(
        self, connections: ConnectionPage, visits: Visits, conn_id: str
    ) -> None:
        connections.start(conn_id)
        form = connections.form
        expect(form.get_by_label("Base URL")).to_have_attribute("placeholder", "https://api.apixo.ai/api/v1")
        expect(form.get_by_label("API key")).to_have_attribute("type", "password")
        for hidden in ("Login", "Schema", "Port", "Host", "Password"):
            expect(form.get_by_label(hidden, exact=True)).to_have_count(0)
        visits.screenshot(connections.page, "connection-form")

    def test_every_extra_field_has_a_label_and_says_what_empty_means(
        self, connections: ConnectionPage, visits: Visits, conn_id: str
    ) -> None:
        connections.start(conn_id)
        connections.unfold()
        for words in (
            "Price per image (USD)",
            "What your account pays for one image; 0.035 when empty.",
            "Routing",
            "Which route APIXO takes when a task names none; the key's own when empty.",
            "Request timeout (seconds)",
            "How long one HTTP request may take in total; 60 when empty.",
            "Callback base URL",
            "Public https address of Airflow, which APIXO calls when a task in callback mode has ended; "
            "Airflow's own settings when empty.",
        ):
            expect(connections.form.get_by_text(words, exact=True)).to_be_visible()
        expect(connections.extra("price_per_image")).to_have_value("")
        visits.screenshot(connections.page, "connection-form-extra")

    def test_the_routing_is_a_dropdown_of_the_vendors_routes(
        self, connections: ConnectionPage, visits: Visits, conn_id: str
    ) -> None:
        connections.start(conn_id)
        connections.unfold()
        connections.extra("provider").click()
        expect(connections.page.get_by_role("option")).to_have_text(["auto", "value", "official"])
        visits.screenshot(connections.page, "connection-form-routing")


class TestWhatIsSaved:
    def test_the_hook_reads_what_was_filled_in(
        self, site: Site, connections: ConnectionPage, conn_id: str, tmp_path: Path
    ) -> None:
        connections.start(conn_id)
        connections.form.get_by_label("Base URL").fill("https://eu.example.com")
        connections.form.get_by_label("API key").fill("sk-form-1a2b3c")
        connections.unfold()
        connections.extra("price_per_image").fill("0.04")
        connections.choose("provider", "official")
        connections.extra("request_timeout").fill("25")
        connections.extra("callback_base_url").fill("https://airflow.example.com")
        connections.save()
        account = account_of(site, conn_id, tmp_path)
        assert account.api_key == "sk-form-1a2b3c"
        assert account.base_url == "https://eu.example.com/api/v1"
        assert (account.price_per_image, account.provider) == (Decimal("0.04"), "official")
        assert account.request_timeout == 25.0
        assert account.callback_base_url == "https://airflow.example.com"

    def test_a_key_is_enough_and_the_rest_are_defaults(
        self, site: Site, connections: ConnectionPage, conn_id: str, tmp_path: Path
    ) -> None:
        connections.add(conn_id, key=KEY)
        account = account_of(site, conn_id, tmp_path)
        assert account.base_url == "https://api.apixo.ai/api/v1"
        assert (account.price_per_image, account.provider) == (Decimal("0.035"), None)
        assert account.request_timeout == 60.0
        assert account.callback_base_url is None

    def test_the_form_shows_it_again_but_never_the_key(
        self, site: Site, connections: ConnectionPage, visits: Visits, conn_id: str
    ) -> None:
        connections.add(conn_id, host="https://eu.example.com", key="sk-form-1a2b3c", price_per_image="0.04")
        connections.page.reload()
        connections.edit(conn_id)
        expect(connections.form.get_by_label("Base URL")).to_have_value("https://eu.example.com")
        expect(connections.form.get_by_label("API key")).to_have_value("***")
        connections.unfold()
        expect(connections.extra("price_per_image")).to_have_value("0.04")
        expect(connections.extra("request_timeout")).to_have_value("")
        visits.screenshot(connections.page, "connection-form-again")
        assert "sk-form-1a2b3c" not in connections.page.content()

    def test_a_change_of_the_price_keeps_the_key_and_a_field_can_be_emptied(
        self, site: Site, connections: ConnectionPage, conn_id: str, tmp_path: Path
    ) -> None:
        connections.add(conn_id, key="sk-form-1a2b3c", price_per_image="0.04", request_timeout="25")
        connections.edit(conn_id)
        connections.unfold()
        connections.extra("price_per_image").fill("0.05")
        connections.extra("request_timeout").fill("")
        connections.save()
        account = account_of(site, conn_id, tmp_path)
        assert account.api_key == "sk-form-1a2b3c"
        assert (account.price_per_image, account.request_timeout) == (Decimal("0.05"), 60.0)


class TestTheTestButton:
    def test_a_valid_key_shows_the_balance_and_costs_nothing(
        self, site: Site, connections: ConnectionPage, visits: Visits, conn_id: str
    ) -> None:
        bought = site.world.ledger()["tasks"]
        connections.add(conn_id, host=site.world.sandbox.base_url, key=KEY)
        message = connections.test(conn_id)
        expect(message).to_contain_text("Test Connection Successful")
        expect(message).to_contain_text(BALANCE)
        visits.screenshot(connections.page, "connection-test-valid")
        assert site.world.ledger()["tasks"] == bought

    def test_it_uses_the_stored_key_though_the_page_knows_only_stars(
        self, site: Site, connections: ConnectionPage, conn_id: str
    ) -> None:
        connections.add(conn_id, host=site.world.sandbox.base_url, key="sk-with-an-account-of-its-own")
        connections.page.reload()
        expect(connections.test(conn_id)).to_contain_text(BALANCE)
        assert "***" not in site.world.ledger()["accounts"]

    def test_also_with_every_field_filled_in(
        self, site: Site, connections: ConnectionPage, conn_id: str
    ) -> None:
        host = site.world.sandbox.base_url
        connections.add(conn_id, host=host, key=KEY, price_per_image="0.04", request_timeout="25")
        expect(connections.test(conn_id)).to_contain_text(BALANCE)

    def test_a_wrong_key(self, site: Site, connections: ConnectionPage, visits: Visits, conn_id: str) -> None:
        connections.add(conn_id, host=site.world.sandbox.base_url, key="invalid")
        message = connections.test(conn_id)
        expect(message).to_contain_text("Test Connection Failed")
        expect(message).to_contain_text("The API key is not valid")
        visits.screenshot(connections.page, "connection-test-wrong-key")

    def test_no_key(self, connections: ConnectionPage, conn_id: str) -> None:
        connections.add(conn_id)
        expect(connections.test(conn_id)).to_contain_text("It has no API key.")

    def test_a_host_that_does_not_exist(
        self, connections: ConnectionPage, visits: Visits, conn_id: str
    ) -> None:
        connections.add(conn_id, host="https://api.apixo.invalid/api/v1", key=KEY)
        message = connections.test(conn_id)
        expect(message).to_contain_text("https://api.apixo.invalid/api/v1 cannot be reached")
        expect(message).to_contain_text("the host's name cannot be looked up")
        visits.screenshot(connections.page, "connection-test-no-such-host")

    def test_nobody_listening(self, connections: ConnectionPage, conn_id: str) -> None:
        with closing(socket.socket()) as reserved:
            reserved.bind(("127.0.0.1", 0))
            connections.add(conn_id, host=f"http://127.0.0.1:{reserved.getsockname()[1]}", key=KEY)
            expect(connections.test(conn_id)).to_contain_text("nothing listens there")

    def test_a_host_that_takes_the_connection_and_never_answers(
        self, connections: ConnectionPage, conn_id: str
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            connections.add(conn_id, host=f"http://127.0.0.1:{silent.getsockname()[1]}", key=KEY)
            expect(connections.test(conn_id)).to_contain_text("cannot be reached")

    @pytest.mark.parametrize(
        ("status", "body"), [(404, b"<html>Not Found</html>"), (200, b"<html>Welcome</html>")]
    )
    def test_another_web_site(
        self, connections: ConnectionPage, conn_id: str, status: int, body: bytes
    ) -> None:
        with web_site(status, body) as base_url:
            connections.add(conn_id, host=base_url, key=KEY)
            expect(connections.test(conn_id)).to_contain_text("answers, but not as APIXO does")

    def test_a_host_without_https(self, connections: ConnectionPage, visits: Visits, conn_id: str) -> None:
        connections.add(conn_id, host="http://eu.example.com/api/v1", key=KEY)
        message = connections.test(conn_id)
        expect(message).to_contain_text("would send the API key unencrypted")
        expect(message).to_contain_text("Use https://.")
        visits.screenshot(connections.page, "connection-test-no-https")

    def test_a_price_that_is_none(self, site: Site, connections: ConnectionPage, conn_id: str) -> None:
        connections.add(conn_id, host=site.world.sandbox.base_url, key=KEY, price_per_image="cheap")
        message = connections.test(conn_id)
        expect(message).to_contain_text("Its price_per_image is 'cheap'.")

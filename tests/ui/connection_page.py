"""Airflow's page of connections, as a person uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.ui.browser import expect

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

EXTRA_FIELDS = "Extra Fields"
"""The heading under which the form has the fields of a provider."""


class ConnectionPage:
    """Fills in its form and presses its buttons.

    :param page: shows ``/connections``, as somebody who may edit them.
    """

    def __init__(self, page: Page) -> None:
        self.page = page

    @property
    def form(self) -> Locator:
        """The open form."""
        return self.page.get_by_role("dialog")

    def start(self, conn_id: str, conn_type: str = "Seedream (APIXO)") -> None:
        """Open the form for a new connection."""
        self.page.get_by_role("button", name="Add Connection").click()
        self.form.locator("[name=connection_id]").fill(conn_id)
        self.form.get_by_role("combobox").first.click()
        self.page.get_by_role("option", name=conn_type).click()

    def edit(self, conn_id: str) -> None:
        """Open the form of a connection that is there."""
        self.row(conn_id).get_by_role("button", name="Edit Connection").click()
        expect(self.form.get_by_text("Standard Fields")).to_be_visible()

    def unfold(self, heading: str = EXTRA_FIELDS) -> None:
        """Open a part of the form; the others close."""
        self.form.get_by_role("button", name=heading, exact=True).click()

    def extra(self, name: str) -> Locator:
        """An input of the extra fields; Airflow does not tie their labels to them."""
        return self.form.locator(f"#element_{name}")

    def choose(self, name: str, choice: str) -> None:
        """Pick from a dropdown of the extra fields."""
        self.extra(name).click()
        self.page.get_by_role("option", name=choice, exact=True).click()

    def save(self) -> None:
        """Press *Save*, and wait until that is done."""
        self.form.get_by_role("button", name="Save").click()
        expect(self.form).to_have_count(0)

    def add(self, conn_id: str, *, host: str = "", key: str = "", **extra: str) -> None:
        """Make a connection; what is not given is left as it is."""
        self.start(conn_id)
        if host:
            self.form.get_by_label("Base URL").fill(host)
        if key:
            self.form.get_by_label("API key").fill(key)
        if extra:
            self.unfold()
        for name, value in extra.items():
            self.extra(name).fill(value)
        self.save()

    def row(self, conn_id: str) -> Locator:
        """The line of a connection."""
        return self.page.get_by_role("row").filter(
            has=self.page.get_by_role("cell", name=conn_id, exact=True)
        )

    def test(self, conn_id: str) -> Locator:
        """Press *Test*; the message that follows, within the time that a person waits."""
        self.row(conn_id).get_by_role("button", name="Test Connection").click()
        message = self.page.locator("[data-scope=toast][data-part=root]").filter(has_text="Test Connection")
        expect(message.first).to_be_visible(timeout=20_000)
        # It has arrived when it stands still, and stays while the mouse is over it.
        message.first.hover()
        return message.first

"""A headless chromium in which the users of the tests see Airflow's pages.

Playwright is imported when it is needed: ``make test`` collects the modules beside this one without it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dev.airflow_api import User
from dev.chromium import find_chromium
from tests.ui.site import Site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, StorageState


def expect(actual: Any) -> Any:
    """Playwright's assertions, which wait until they hold."""
    from playwright.sync_api import expect as playwright_expect

    return playwright_expect(actual)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's own browser; it refuses its sandbox to root."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=arguments)
        yield browser
        browser.close()


def log_in(page: Page, site: Site, user: User) -> None:
    """Fill in Airflow's login form; the page shows Airflow's home afterwards."""
    page.goto(f"{site.url}/auth/login")
    page.get_by_label("Username").fill(user.name)
    page.get_by_label("Password").fill(user.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(re.compile(rf"^{re.escape(site.url)}/(?!auth/)"))


class Visits:
    """Opens pages for one test, each in a window of its own.

    :param folder: where screenshots go.
    """

    def __init__(self, browser: Browser, folder: Path) -> None:
        self._browser = browser
        self._folder = folder
        self.pages: list[Page] = []
        self.complaints: list[str] = []
        """Errors in the consoles of all pages, such as what the Content-Security-Policy has blocked; answers
        like 403 and 404 are none, since a test may want them."""

    def open(
        self, site: Site, user: User | None, path: str = "/", *, width: int = 1280, height: int = 900,
        dark: bool = False, **context_options: Any,
    ) -> Page:  # fmt: skip
        """A new window that shows a page of a site.

        :param user: who is logged in; ``None`` for nobody.
        :param path: below the site's URL.
        :param context_options: further parameters of Playwright's ``browser.new_context``.
        """
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            storage_state=self._login(site, user) if user else None,
            **context_options,
        )
        page = context.new_page()
        page.on("console", self._record)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.pages.append(page)
        page.goto(site.url + path)
        return page

    def _record(self, message: Any) -> None:
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.complaints.append(f"{message.text} ({message.location.get('url')})")

    def _login(self, site: Site, user: User) -> StorageState:
        """The cookies of a user who has logged in; Airflow takes them for a day."""
        known = _logins.get((site.url, user))
        if known is None:
            context = self._browser.new_context()
            log_in(context.new_page(), site, user)
            known = _logins[site.url, user] = context.storage_state()
            context.close()
        return known

    def screenshot(self, page: Page, name: str, **options: Any) -> Path:
        """A picture of a page, as ``NAME.png``.

        :param options: of Playwright's ``page.screenshot``, such as ``full_page=True``.
        """
        path = self._folder / f"{name}.png"
        page.screenshot(path=path, **options)
        return path

    def close(self) -> None:
        """Close every window."""
        for page in self.pages:
            page.context.close()


_logins: dict[tuple[str, User], StorageState] = {}

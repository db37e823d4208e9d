"""A browser to look at pages with: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

__all__ = ["launched", "opened"]

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def _executable() -> str:
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.fail(
            "the HTML report is tested in a browser, and there is none: install Debian's package "
            "with `apt-get install chromium` (`make test` does so as root), or set CHROMIUM to "
            "the path of a Chromium",
            pytrace=False,
        )
    return found


@contextmanager
def launched() -> Iterator[Browser]:
    """Run a browser without a window."""
    executable = _executable()
    with sync_playwright() as playwright:
        # A container's root may not make the namespaces that the sandbox is built of.
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, uri: str, **context: object) -> Iterator[Page]:
    """Open a page, and fail if it asks the network for anything, complains or shows a dialog."""
    page = browser.new_page(**context)  # type: ignore[arg-type]
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (trouble.append(f"dialog: {dialog.message}"), dialog.accept()))
    page.on(
        "request",
        lambda request: trouble.append(f"request: {request.url}") if request.url != uri else None,
    )
    page.goto(uri)
    try:
        yield page
    finally:
        page.close()
    assert trouble == []

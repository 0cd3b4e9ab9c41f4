"""The board's page in a real browser, for tests: where one is found, how it is started, what must never happen."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}

Opened = Callable[..., Any]
"""Opens a file, at a state of the page, in a new window: `opened(path, hash, dark=False, viewport=DESKTOP)`."""


@contextmanager
def started() -> Iterator[Any]:
    """A headless browser with an empty profile. Skips the test, saying why, where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install 'lt-bench[dev]'")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed (apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=found, args=[*FLAGS])


@contextmanager
def window(browser: Any, path: Path, state: str = "", *, dark: bool = False, viewport: Any = None, **more: Any) -> Any:
    """A page whose every request, error and dialog is seen; none but the file itself may be asked for."""
    scheme = "dark" if dark else "light"
    context = browser.new_context(viewport=viewport or DESKTOP, color_scheme=scheme, reduced_motion="reduce", **more)
    page = context.new_page()
    asked, wrong = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
    page.on("dialog", lambda dialog: wrong.append(f"dialog {dialog.message}") or dialog.dismiss())
    page.set_default_timeout(30_000)
    page.goto(f"{path.as_uri()}#{state}")
    yield page
    context.close()
    assert not wrong
    assert {url.partition("#")[0] for url in asked if not url.startswith("blob:")} == {path.as_uri()}

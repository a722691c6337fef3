"""Opening a page in the tests' browser."""

from pathlib import Path
from urllib.parse import unquote

from selenium.webdriver.support.ui import WebDriverWait


def open_page(browser, path: Path) -> None:
    """Opens a page and waits for it: `get` alone comes back early where a download has only just ended."""
    browser.get(path.as_uri())
    WebDriverWait(browser, 30).until(lambda _: browser.execute_script("return document.readyState") == "complete"
                                     and unquote(browser.current_url) == unquote(path.as_uri()))

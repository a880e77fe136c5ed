"""A page in Chromium, with all that it asked for and complained of."""

from typing import Any

from playwright.sync_api import Browser, Page


class WatchedPage:
    """Opens ``url`` in a context of its own; ``asked`` are the URLs of its requests."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(url)

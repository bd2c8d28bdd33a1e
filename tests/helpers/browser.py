"""Pages in a headless browser, and what none of them may do."""

from __future__ import annotations


class Visits:
    """Opens pages in a context of their own, and remembers what none of them may do."""

    def __init__(self, browser, origin: str) -> None:
        self._browser, self.origin = browser, origin
        self.contexts, self.pages, self.dialogs, self.strangers, self.errors = [], [], [], [], []

    def __call__(self, path: str = "", *, wait: str | None = None, **options):
        options = {"viewport": {"width": 1120, "height": 800}, "color_scheme": "light"} | options
        context = self._browser.new_context(**options)
        context.set_default_timeout(30_000)
        self.contexts.append(context)
        context.on("request", self._request)
        page = context.new_page()
        self.watch(page)
        page.goto(self.origin + path if path.startswith(("/", "?")) or not path else path)
        if wait:
            page.wait_for_selector(wait)
        return page

    def watch(self, page) -> None:
        self.pages.append(page)
        page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _request(self, request) -> None:
        if not request.url.startswith((self.origin or "\0", "data:", "blob:", "file:", "about:")):
            self.strangers.append(request.url)

    def check_and_close(self) -> None:
        pwned = [page.evaluate("window.__pwned") for page in self.pages if not page.is_closed()]
        for context in self.contexts:
            context.close()
        assert not any(pwned), "hostile text ran"
        assert self.dialogs == []
        assert self.strangers == [], "a request left the page's own origin"
        assert self.errors == []

"""Pages in a headless browser, and what none of them may do."""

from __future__ import annotations

MEDIA = {"color_scheme", "reduced_motion", "forced_colors", "media"}  # what a page can be told, as a person's system
PERSON = {"viewport": {"width": 1120, "height": 800}, "color_scheme": "light"}


class Visits:
    """Opens pages, and remembers what none of them may do.

    They share the browser's first context, and so the files that it has read already, and one process that lives on
    with the first page: a page of the app opens in half of the time. One with options that a page cannot have by
    itself, or of another person, has a context of its own.
    """

    def __init__(self, browser, origin: str) -> None:
        self._browser, self.origin = browser, origin
        self.contexts, self.pages, self.dialogs, self.strangers, self.errors = [], [], [], [], []

    def __call__(self, path: str = "", *, wait: str | None = None, another: bool = False, viewport=None, **options):
        media = {name: options.pop(name) for name in MEDIA & options.keys()}
        page = self._context(another or bool(options), options).new_page()
        page.set_viewport_size(viewport or PERSON["viewport"])
        page.emulate_media(**media)
        self.watch(page)
        page.goto(self.origin + path if path.startswith(("/", "?")) or not path else path)
        if wait:
            page.wait_for_selector(wait)
        return page

    def watch(self, page) -> None:
        self.pages.append(page)
        page.set_default_timeout(30_000)
        page.on("request", self._request)
        page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("popup", self.watch)

    def _context(self, own: bool, options: dict):
        if not own:
            shared = self._browser.contexts[0]
            if self.origin and not shared.pages and not self.origin.endswith(":"):  # any port: no place to go to
                shared.new_page().goto(self.origin + "/theme.css")
            return shared
        self.contexts.append(self._browser.new_context(**PERSON | options))
        return self.contexts[-1]

    def _request(self, request) -> None:
        if not request.url.startswith((self.origin or "\0", "data:", "blob:", "file:", "about:")):
            self.strangers.append(request.url)

    def check_and_close(self) -> None:
        pages = [page for page in self.pages if not page.is_closed()]
        pwned = [page.evaluate("window.__pwned") for page in pages]
        for page in pages:
            if page.url.startswith("http"):
                page.evaluate("localStorage.clear()")
            page.close()
        for context in self.contexts:
            context.close()
        self._browser.contexts[0].clear_cookies()
        assert not any(pwned), "hostile text ran"
        assert self.dialogs == []
        assert self.strangers == [], "a request left the page's own origin"
        assert self.errors == []

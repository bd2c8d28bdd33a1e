"""The face: the dashboards under the names that users know, each with `display()`, which opens the live app on it."""

from __future__ import annotations

import sys
from typing import Any

from tiny_dashboard.core.highlight import Html, plain_text
from tiny_dashboard.dashboards.functions import FunctionDashboard
from tiny_dashboard.dashboards.offline import OfflineDashboard
from tiny_dashboard.dashboards.online import Analysis, OnlineDashboard

__all__ = [
    "AbstractOnlineFeatureCentricDashboard",
    "Analysis",
    "OfflineFeatureCentricDashboard",
    "OnlineFeatureCentricDashboard",
]


# The app's frame has another address than the notebook, whose theme it cannot see by itself.
_FOLLOW_THEME = """<script>(() => {
  const { dataset, classList } = document.body;
  const dark = dataset.jpThemeLight === "false" || classList.contains("vscode-dark");
  if (!dark && dataset.jpThemeLight !== "true" && !classList.contains("vscode-light")) return;
  const theme = dark ? "dark" : "light";
  for (const frame of document.querySelectorAll('iframe[src="URL"]')) frame.src += `?__theme=${theme}`;
})()</script>"""


class Displayed:
    """What a dashboard gains above the app."""

    app: Any = None

    def display(self) -> None:
        """Show the live dashboard, in a notebook or in a browser; the running app is kept on `.app`."""
        from tiny_dashboard.app.launch import launch  # the dashboards work where gradio is not installed

        self.app = launch(self, height=800)
        if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None and not self.app.share:
            from IPython.display import HTML, display

            display(HTML(_FOLLOW_THEME.replace("URL", self.app.local_url)))

    def __repr__(self) -> str:
        try:
            about = self._about()
        except (OSError, ValueError) as error:  # a debugger shows what it can
            about = str(error)
        return f"<{' · '.join(filter(None, [type(self).__name__, about]))}; .display() opens it>"

    def _about(self) -> str:
        size = None if isinstance(self, OfflineDashboard) else getattr(self, "n_features", None)
        return getattr(self, "about", f"{size:,} features" if size else "")

    def _repr_html_(self) -> str:
        offline, about = isinstance(self, OfflineDashboard), self._about()
        call = "[feature]" if offline else ".analyze(text, feature)"
        shows = "shows one" if offline else "shows a text"
        name = f"<strong>{type(self).__name__}</strong>"
        facts = f" · {plain_text(about)}" if about else ""
        return f"<p>{name}{facts}<br><code>{call}</code> {shows}, <code>.display()</code> opens the dashboard</p>"


class OfflineFeatureCentricDashboard(Displayed, OfflineDashboard):  # noqa: D101
    __doc__ = OfflineDashboard.__doc__
    __iter__ = None  # what can be indexed is no row of pages

    def __getitem__(self, feature: int) -> Html:
        """A feature's page, which a notebook shows: `dashboard[1532]`."""
        return self.generate_html(feature)


class AbstractOnlineFeatureCentricDashboard(Displayed, OnlineDashboard):  # noqa: D101
    __doc__ = OnlineDashboard.__doc__


class OnlineFeatureCentricDashboard(AbstractOnlineFeatureCentricDashboard, FunctionDashboard):  # noqa: D101
    __doc__ = FunctionDashboard.__doc__

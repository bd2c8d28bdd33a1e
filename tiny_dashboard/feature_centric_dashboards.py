"""The face: the dashboards under the names that users know, each with `display()`, which opens the live app on it."""

from __future__ import annotations

from typing import Any

from tiny_dashboard.dashboards.offline import OfflineDashboard
from tiny_dashboard.dashboards.online import Analysis, FunctionDashboard, OnlineDashboard

__all__ = [
    "AbstractOnlineFeatureCentricDashboard",
    "Analysis",
    "OfflineFeatureCentricDashboard",
    "OnlineFeatureCentricDashboard",
]


class Displayed:
    """What a dashboard gains above the app."""

    app: Any = None

    def display(self) -> None:
        """Show the live dashboard, in a notebook or in a browser; the running app is kept on `.app`."""
        from tiny_dashboard.app.launch import launch  # the dashboards work where gradio is not installed

        self.app = launch(self)


class OfflineFeatureCentricDashboard(Displayed, OfflineDashboard):  # noqa: D101
    __doc__ = OfflineDashboard.__doc__


class AbstractOnlineFeatureCentricDashboard(Displayed, OnlineDashboard):  # noqa: D101
    __doc__ = OnlineDashboard.__doc__


class OnlineFeatureCentricDashboard(AbstractOnlineFeatureCentricDashboard, FunctionDashboard):  # noqa: D101
    __doc__ = FunctionDashboard.__doc__

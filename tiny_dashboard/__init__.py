"""tiny-dashboard: look at the features of sparse autoencoders and crosscoders.

The public names load on first use, so that importing the package costs nothing: no torch, no gradio.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Example": "core.examples",
    "Track": "core.highlight",
    "open_examples": "sources",
    "load_dictionary": "dictionaries",
    "OfflineFeatureCentricDashboard": "feature_centric_dashboards",
    "AbstractOnlineFeatureCentricDashboard": "feature_centric_dashboards",
    "OnlineFeatureCentricDashboard": "feature_centric_dashboards",
    "CrosscoderOnlineFeatureDashboard": "dashboard_implementations",
    "SAEOnlineFeatureDashboard": "dashboard_implementations",
    "activation_visualization": "visualization_utils",
    "collect_examples": "collect",
    "DashboardConfig": "config",
    "build_app": "app.launch",
    "launch": "app.launch",
}

__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tiny_dashboard' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__

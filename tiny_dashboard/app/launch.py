"""The Gradio app: an offline and an online tab over one or more views, and `launch`, which shows it anywhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import pyarrow as pa

from tiny_dashboard.app.agent_tools import AgentTools
from tiny_dashboard.app.api import Endpoints
from tiny_dashboard.app.components import endpoint, look, note
from tiny_dashboard.app.label_editor import LabelEditor
from tiny_dashboard.app.loading import Loading
from tiny_dashboard.app.navigation import Header, Navigation
from tiny_dashboard.app.offline_tab import OfflineTab
from tiny_dashboard.app.online_tab import OnlineTab
from tiny_dashboard.app.opening import Offline, Online, pair, views_of, views_of_config
from tiny_dashboard.app.theme import theme
from tiny_dashboard.app.views import Views
from tiny_dashboard.config import DashboardConfig, Start
from tiny_dashboard.core.static import icon_path
from tiny_dashboard.dashboards.offline import OfflineDashboard


def build_app(
    offline: Offline | Mapping[str, Any] | None = None,
    online: Online | None = None,
    *,
    title: str = "tiny-dashboard",
    description: str = "",
    feature: int | None = None,
    text: str = "",
    start: Sequence[Start] = (),
    window_size: int = 50,
    max_examples: int = 30,
    max_text: int = 20_000,
    max_new_tokens: int = 128,
    label_authors: Sequence[str] | None = None,
    llm: str | None = None,
    llm_url: str | None = None,
    max_loaded: int | None = None,
    for_agents: bool = False,
) -> gr.Blocks:
    """The app as Gradio Blocks; `.launch()` it, mount it, or put it inside other Blocks.

    Args:
        offline: what the offline tab shows; with a `Loading` the app is there before its examples are, and opens them
            when they are asked for, again after a failure. Or several views: `{name: dashboard}`, or for both tabs
            `{name: (offline, online)}`, of which one may be None.
        online: what the online tab runs; a function or a `Loading` is called in the background, so that the app is
            there before its models are; with several views when the tab is first looked at.
        title, description: the heading and the line under it, as plain text.
        feature, text, start: what the tabs show at first, and where a newcomer may begin; None and "" take the first.
        window_size, max_examples: of an `offline` that is not there yet.
        max_text, max_new_tokens: limits of one request: characters of text, generated tokens.
        label_authors: Hub accounts that may write labels when signed in, or "anyone"; None: this machine's browser.
        llm, llm_url: a language model that they may ask for a name, and its server.
        max_loaded: so many views' models stay loaded, at most; None keeps all.
        for_agents: have tools for clients of MCP, as `launch(mcp_server=True)` serves them.
    """
    given: Mapping[str, Any] = offline if isinstance(offline, Mapping) else {"": (offline, online)}
    views = views_of(given, max_text, max_loaded, description=description, feature=feature, text=text, start=start)
    first, _ = pair(next(iter(given.values()), None))
    if isinstance(first, OfflineDashboard):
        window_size, max_examples = first.window_size, first.max_examples
    return _blocks(
        views,
        None if not views.has_offline else LabelEditor.of(views, label_authors, llm, llm_url),
        title=title,
        later=isinstance(first, Loading),
        sizes={"window_size": window_size, "max_examples": max_examples},
        max_new_tokens=max_new_tokens,
        for_agents=for_agents,
    )


def _blocks(
    views: Views,
    editor: LabelEditor | None,
    *,
    title: str,
    later: bool,
    sizes: Mapping[str, Any],
    max_new_tokens: int,
    for_agents: bool,
) -> gr.Blocks:
    """The app; a tab for which no view has anything is not there."""
    off = on = online_tab = None
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(3600, 86400)) as app:
        # First: a tab's own function of the same name would take the name.
        _add_endpoints(views, editor, for_agents)
        look()
        header = Header(views, title, later=later)
        with gr.Tabs(selected="offline" if views.has_offline else "online", elem_classes="td-tabs") as tabs:
            if views.has_offline:
                with gr.Tab("Offline · examples", id="offline"):
                    off = OfflineTab(views, header.picker, has_online=views.has_online, editor=editor, **sizes)
            if views.has_online:
                with gr.Tab("Online · your text", id="online", elem_id="td-go-online") as online_tab:
                    on = OnlineTab(views, header.picker, max_new_tokens, has_offline=views.has_offline)
        if off is on is None:
            gr.HTML(note("nothing is configured: start with --examples SRC, or with --model M --dictionary SRC"))
        Navigation(views, header, tabs, off, on, online_tab).wire(app)
        nowhere = gr.State()
        for event in app.fns.values():
            if event.show_progress == "hidden":  # each step of it draws anew what it is shown on, and all within
                event.show_progress_on = [nowhere]
    return app


def _add_endpoints(views: Views, editor: LabelEditor | None, for_agents: bool) -> None:
    asked = Endpoints(views)

    def add(function: Callable[..., Any], **how: Any) -> None:
        call: Any = endpoint(function)
        if for_agents:
            call._mcp_type = "endpoint"  # by which Gradio does not show it to them
        gr.api(call, api_name=function.__name__, **how)

    reads: list[Callable[..., Any]] = [asked.examples, asked.features]
    for function in reads:
        add(function, concurrency_limit=None)
    computes: list[Callable[..., Any]] = [asked.analyze, asked.top_features]
    for function in computes:
        add(function, concurrency_limit=1, concurrency_id="gpu")
    if editor:
        add(editor.label, queue=False)
    if for_agents:
        AgentTools(views, editor).add()


def launch(what: Any = None, *, patient: bool = False, gpu: Any = None, **options: Any) -> gr.Blocks:
    """Show a dashboard: in a notebook, on localhost, or on a Space.

    Args:
        what: a `DashboardConfig` or the path of a `dashboard.toml`; a dashboard, or an offline and an online one;
            several views, as `{name: dashboard}` or `{name: (offline, online)}`; None opens the embedded demo.
        patient: be there before examples and models are, and try again when they cannot be had, as a server should
            that nobody watches; otherwise examples that cannot be opened are an error.
        gpu: on ZeroGPU, `spaces.GPU`. The models are loaded before the app is there then, as it demands.
        options: arguments of Gradio's `launch` (`server_port`, `share`, `inbrowser`, …).

    Returns:
        The running app; `.close()` stops it.
    """
    # Arrow's own allocator keeps some megabytes for each thread that ever read examples, and threads come and go here.
    pa.set_memory_pool(pa.system_memory_pool())
    app = _app_of(what, patient, gpu, bool(options.get("mcp_server")))
    _reach_ourselves()
    settings: dict[str, Any] = {
        "theme": theme(),
        "favicon_path": icon_path(),
        "share": False,  # a notebook in the cloud would make a public link by default
        "ssr_mode": False,
        "max_file_size": "1kb",  # the upload route is open even where no component takes a file
        "enable_monitoring": False,
        "show_error": False,
        "footer_links": ["api"],
        "state_session_capacity": 200,  # a session holds about 2 MB; the oldest is forgotten
    }
    app.queue(max_size=128).launch(**(settings | options))
    return app


def _reach_ourselves() -> None:
    """Gradio asks its own server whether it is there; a proxy of the network must not stand in between."""
    for name in ("no_proxy", "NO_PROXY"):
        known = os.environ.get(name, "")
        if known != "*":
            missing = [host for host in ("localhost", "127.0.0.1", "0.0.0.0", "::1") if host not in known.split(",")]
            os.environ[name] = ",".join(filter(None, [known, *missing]))


def _app_of(what: Any, patient: bool, gpu: Any, for_agents: bool = False) -> gr.Blocks:
    config = DashboardConfig.demo() if what is None else what
    if isinstance(config, (str, Path)):
        config = DashboardConfig.read(config)
    if isinstance(config, DashboardConfig):
        views, first = views_of_config(config, patient=patient, gpu=gpu), config.views[0]
        return _blocks(
            views,
            LabelEditor.of(views, config.label_authors, config.llm, config.llm_url) if views.has_offline else None,
            title=config.title,
            later=patient and first.examples is not None,
            sizes={"window_size": first.window_size, "max_examples": first.max_examples},
            max_new_tokens=config.max_new_tokens,
            for_agents=for_agents,
        )
    if isinstance(config, Mapping) and all(isinstance(name, str) for name in config):
        return build_app(config, for_agents=for_agents)
    try:
        offline, online = pair(config)
    except TypeError as error:
        kind = type(config).__name__
        raise TypeError(
            f"launch takes dashboards, views by name, a DashboardConfig or a path of a dashboard.toml, not {kind}"
        ) from error
    return build_app(offline, online, for_agents=for_agents)

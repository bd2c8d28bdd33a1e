"""The Gradio app: an offline and an online tab over two dashboards, and `launch`, which shows it anywhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr

from tiny_dashboard.app.agent_tools import AgentTools
from tiny_dashboard.app.api import Endpoints
from tiny_dashboard.app.components import endpoint, keys_js, note, token_view, url_js
from tiny_dashboard.app.label_editor import LabelEditor
from tiny_dashboard.app.loading import Loading
from tiny_dashboard.app.offline_tab import OfflineTab
from tiny_dashboard.app.online_tab import OnlineTab
from tiny_dashboard.app.online_view import Seen
from tiny_dashboard.app.served import bounded
from tiny_dashboard.app.theme import theme
from tiny_dashboard.config import DashboardConfig, Start
from tiny_dashboard.core.highlight import plain_text
from tiny_dashboard.core.static import assets
from tiny_dashboard.dashboards.offline import MaxActs, OfflineDashboard
from tiny_dashboard.dashboards.online import OnlineDashboard
from tiny_dashboard.dashboards.question import Question

Offline = OfflineDashboard | Loading[OfflineDashboard]
Online = OnlineDashboard | Callable[[], OnlineDashboard] | Loading[OnlineDashboard]


def build_app(
    offline: Offline | None = None,
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
    for_agents: bool = False,
) -> gr.Blocks:
    """The app as Gradio Blocks; `.launch()` it, mount it, or put it inside other Blocks.

    Args:
        offline: what the offline tab shows; with a `Loading` the app is there before its examples are, and opens them
            when they are asked for, again after a failure.
        online: what the online tab runs; a function or a `Loading` is called in the background, so that the app is
            there before its models are.
        title, description: the heading and the line under it, as plain text.
        feature, text, start: what the tabs show at first, and where a newcomer may begin; None and "" take the first.
        window_size, max_examples: of an `offline` that is not there yet.
        max_text, max_new_tokens: limits of one request: characters of text, generated tokens.
        label_authors: Hub accounts that may write labels when signed in, or "anyone"; None: this machine's browser.
        llm, llm_url: a language model that they may ask for a name, and its server.
        for_agents: have tools for clients of MCP, as `launch(mcp_server=True)` serves them.
    """
    if isinstance(offline, OfflineDashboard):
        window_size, max_examples = offline.window_size, offline.max_examples
    text = text or next((place.text for place in start if place.text), "")
    asked = Endpoints(offline, None if online is None else _in_background(online), max_text)
    editor = None if offline is None else LabelEditor.of(asked, label_authors, llm, llm_url)
    off = None
    head = partial(_head, asked, offline is not None, title, description)
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(3600, 86400)) as app:
        # First: a tab's own function of the same name would take the name.
        _add_endpoints(asked, editor, for_agents, offline is not None, online is not None)
        gr.HTML(f"<style>{assets()['css']}</style>", padding=False, elem_classes="td-hidden")
        header = gr.HTML(head() if not isinstance(offline, Loading) else "", padding=False, min_height=48)
        starts = token_view(value=_chips(start), elem_classes="" if start else "td-hidden")
        with gr.Tabs(selected="online" if offline is None and online is not None else "offline") as tabs:
            with gr.Tab("Offline · examples", id="offline"):
                if offline is not None:
                    sizes: Any = {"window_size": window_size, "max_examples": max_examples}
                    off = OfflineTab(asked, feature, has_online=online is not None, editor=editor, **sizes)
                else:
                    gr.HTML(note("no examples are configured: start with --examples SRC"))
            with gr.Tab("Online · your text", id="online", elem_id="td-go-online") as online_tab:
                on = _online_tab(asked, online is not None, text, max_new_tokens, offline is not None)
        if isinstance(offline, Loading):
            app.load(head, None, header, concurrency_limit=None, **_PRIVATE)
        _wire(app, off, on, tabs, online_tab, feature, text)
        _begin(starts, start, tabs, off, on)
    return app


_PRIVATE: Any = {"api_visibility": "private", "show_progress": "hidden"}


def _online_tab(asked: Endpoints, is_there: bool, text: str, most: int, has_offline: bool) -> OnlineTab | None:
    if is_there:
        return OnlineTab(asked, text, most, has_offline=has_offline)
    gr.HTML(note("no model is configured: start with --model M --dictionary SRC"))
    return None


def _wire(
    app: gr.Blocks,
    off: OfflineTab | None,
    on: OnlineTab | None,
    tabs: gr.Tabs,
    online_tab: gr.Tab,
    feature: int | None,
    text: str,
) -> None:
    app.load(None, None, None, js=keys_js())
    if off is not None:
        _restore_offline(app, off, tabs, feature)
    if on is not None:
        _restore_online(app, on, online_tab, text)
    if off is not None and on is not None:
        _connect(off, on, tabs)
    tabs.change(None, None, None, js=url_js())


_LEARN = (
    '<p class="td-learn">Each line is a text in which the feature fires; the darker a token, the more it fires there. '
    "Click a line to read on, a token in a text of your own to see what fires at it. "
    '<button type="button" data-learnt title="do not say it again">got it</button></p>'
)


def _head(asked: Endpoints, has_offline: bool, title: str, description: str) -> str:
    try:
        known = asked.offline.about if has_offline else ""
    except Exception:  # the tab says why
        known = ""
    facts = plain_text(" · ".join(filter(None, [description, known])))
    return f'<div class="td td-head"><h1>{plain_text(title)}</h1><p>{facts or "&nbsp;"}</p>{_LEARN}</div>'


def _chips(start: Sequence[Start]) -> str:
    chips = [
        f'<button type="button" data-action="start" data-value="{at}">{plain_text(place.title)}</button>'
        for at, place in enumerate(start)
    ]
    return f'<div class="td td-starts"><span>Start with</span> {" ".join(chips)}</div>'


def _begin(
    starts: gr.HTML, start: Sequence[Start], tabs: gr.Tabs, off: OfflineTab | None, on: OnlineTab | None
) -> None:
    """A chip opens a feature's examples, or analyses its text."""

    def begin(values: Mapping[Any, Any], event: gr.EventData) -> Any:
        place = start[bounded(event.value, "start", 0, len(start) - 1)]
        if place.text and on is not None:
            highlight = "" if place.feature is None else str(place.feature)
            question = Question(place.text, place.chat, highlight)
            return {tabs: gr.Tabs(selected="online")} | on.begin(question)
        if off is None or place.feature is None:
            return {tabs: gr.skip()}
        shown = off.show(place.feature, *(values[setting] for setting in off.settings))
        return {tabs: gr.Tabs(selected="offline")} | dict(zip(off.shown, shown, strict=True))

    outputs = [tabs, *(off.shown if off else []), *(on.outputs if on else [])]
    limits = {"concurrency_limit": 1, "concurrency_id": "gpu"}
    event = starts.action(begin, set(off.settings) if off else {tabs}, outputs, **limits, **_PRIVATE)
    if off is not None:
        off.then_url(event)
    if on is not None:
        on.then_said(event)


def _add_endpoints(
    asked: Endpoints, editor: LabelEditor | None, for_agents: bool, has_offline: bool, has_online: bool
) -> None:
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
        AgentTools(asked, editor).add(has_offline, has_online)


def _restore_offline(app: gr.Blocks, off: OfflineTab, tabs: gr.Tabs, feature: int | None) -> None:
    """Show what a link asks for, and what a step in the browser's history goes back to."""
    shown: Any = {"outputs": [tabs, *off.settings, *off.shown], "concurrency_limit": None, **_PRIVATE}

    def restore(query: Mapping[str, str]) -> list[Any]:
        selected = "online" if query.get("tab") == "online" else "offline"
        return [gr.Tabs(selected=selected), *off.restore(query, feature)]

    def restore_link(request: gr.Request) -> list[Any]:
        return restore(dict(request.query_params))

    def restore_step(search: str) -> list[Any]:
        return restore(_query(search))

    off.then_url(app.load(restore_link, None, **shown))
    search = gr.Textbox(visible="hidden")
    back = gr.Button(visible="hidden", elem_id="td-restore")
    off.then_url(back.click(restore_step, search, js="() => location.search", **shown))


def _restore_online(app: gr.Blocks, on: OnlineTab, tab: gr.Tab, text: str) -> None:
    """Show what a link asks for, once the models are there; else the text in the field, when it is first looked at."""

    def restore(query: Mapping[str, str], seen: Any, shown: bool) -> Any:
        question = Question.of_link({"text": text, **query})
        return on.restore(question, seen) if shown else on.fields(question)

    def restore_link(state: Any, request: gr.Request) -> Any:
        query = dict(request.query_params)
        return restore(query, Seen.of(state), query.get("tab") == "online")

    def restore_step(search: str, state: Any) -> Any:
        query = _query(search)
        return restore(query, Seen.of(state), True) if query.get("tab") == "online" else {on.said: gr.skip()}

    def restore_first(search: str, state: Any) -> Any:
        return {on.said: gr.skip()} if state else restore(_query(search), None, True)

    shown: dict[str, Any] = {"outputs": on.outputs, **on.model, "show_progress": "hidden"}
    app.load(on.ready, None, on.readied, concurrency_limit=8, **_PRIVATE)
    on.then_said(app.load(restore_link, on.state, **shown))
    search = gr.Textbox(visible="hidden")
    back = gr.Button(visible="hidden", elem_id="td-restore-online")
    place: Any = {"inputs": None, "outputs": search, "js": "() => location.search", "api_visibility": "private"}
    for event, act in ((back.click, restore_step), (tab.select, restore_first)):
        on.then_said(event(None, **place).then(act, [search, on.state], **shown))


def _query(search: str) -> dict[str, str]:
    return dict(parse_qsl(str(search)[:100_000].removeprefix("?")))


def _connect(off: OfflineTab, on: OnlineTab, tabs: gr.Tabs) -> None:
    """The loop: an example goes to the live model, a feature that fires there opens its examples."""

    def try_online(event: gr.EventData, chosen: Any, *settings: Any) -> Any:
        _, _, _, _, mask, _ = settings
        stored = f"{chosen}.{event.passage}" + ".masked" * bool(mask)
        return {tabs: gr.Tabs(selected="online")} | on.compare(stored)

    def follow(values: Mapping[Any, Any], event: gr.EventData) -> Any:
        if event.action != "open":
            return on.act(on.question(values), Seen.of(values[on.state]), event)
        opened = off.show(event.value, *(values[setting] for setting in off.settings))
        return {tabs: gr.Tabs(selected="offline")} | dict(zip(off.shown, opened, strict=True))

    tried = off.view.example(try_online, [off.feature, *off.settings], [tabs, *on.outputs], **on.model)
    known = {on.state, *on.controls.values(), *off.settings}
    followed = on.top.action(follow, known, [tabs, *off.shown, *on.outputs], **on.model | {"show_progress": "hidden"})
    for event in (tried, followed):
        off.then_url(event)
        on.then_said(event)


def launch(what: Any = None, *, patient: bool = False, gpu: Any = None, **options: Any) -> gr.Blocks:
    """Show a dashboard: in a notebook, on localhost, or on a Space.

    Args:
        what: a `DashboardConfig` or the path of a `dashboard.toml`; a dashboard, or an offline and an online one;
            None opens the embedded demo.
        patient: be there before examples and models are, and try again when they cannot be had, as a server should
            that nobody watches; otherwise examples that cannot be opened are an error.
        gpu: on ZeroGPU, `spaces.GPU`. The models are loaded before the app is there then, as it demands.
        options: arguments of Gradio's `launch` (`server_port`, `share`, `inbrowser`, …).

    Returns:
        The running app; `.close()` stops it.
    """
    app = _app_of(what, patient, gpu, bool(options.get("mcp_server")))
    _reach_ourselves()
    settings: dict[str, Any] = {
        "theme": theme(),
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
        offline, online = _parts(config, patient, gpu)
        return build_app(
            offline,
            online,
            window_size=config.window_size,
            max_examples=config.max_examples,
            title=config.title,
            description=config.description,
            feature=config.feature,
            start=config.start,
            max_text=config.max_text,
            max_new_tokens=config.max_new_tokens,
            label_authors=config.label_authors,
            llm=config.llm,
            llm_url=config.llm_url,
            for_agents=for_agents,
        )
    given: dict[str, Any] = {"for_agents": for_agents}
    for dashboard in config if isinstance(config, Sequence) else [config]:
        if isinstance(dashboard, OfflineDashboard):
            given["offline"] = dashboard
        elif isinstance(dashboard, OnlineDashboard):
            given["online"] = dashboard
        else:
            kind = type(dashboard).__name__
            raise TypeError(f"launch takes dashboards, a DashboardConfig or a path of a dashboard.toml, not {kind}")
    return build_app(**given)


def _parts(config: DashboardConfig, patient: bool, gpu: Any) -> tuple[Any, Any]:
    """The offline and the online dashboard of a config, opened now or later."""
    later: Loading[Any] = Loading(config.open_offline)
    offline: Any = None if config.examples is None else later if patient else config.open_offline()
    if config.dictionary is None:
        return offline, None
    known = MaxActs(later.result) if offline is later else offline.max_acts if offline else None
    if gpu is None:
        return offline, Loading(lambda: config.open_online(known))
    from tiny_dashboard.app.zero_gpu import ZeroGpuFeaturizer

    remote = ZeroGpuFeaturizer(gpu)

    def load() -> OnlineDashboard:
        dashboard: Any = config.open_online(known, dictionary_device="cpu")
        dashboard.featurizer = remote.hold(dashboard.featurizer)
        return dashboard

    online = Loading(load)
    wait([online.start()])  # a failure is said where it is needed, and tried again
    return offline, online


def _in_background(online: Online) -> Loading[OnlineDashboard]:
    """The dashboard, once it is there."""
    if isinstance(online, OnlineDashboard):
        return Loading.of(online)
    later = online if isinstance(online, Loading) else Loading(online)
    later.start()
    return later

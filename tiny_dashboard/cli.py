"""The command line, `tiny-dashboard …`. Nothing heavy is imported before a command runs, so that `--help` is quick."""

from __future__ import annotations

import os
import signal
import sys
import tomllib
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from importlib.metadata import PackageNotFoundError, version
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from tiny_dashboard import __version__
from tiny_dashboard.collect.settings import CollectSettings
from tiny_dashboard.config import DashboardConfig
from tiny_dashboard.explain.commands import explain, labels

cli = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

Source = Annotated[str, typer.Argument(metavar="SRC", help="Examples: a path or a Hub dataset id.")]
Shown = Annotated[str, typer.Argument(metavar="SRC", help="Examples, or a dashboard.toml.")]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="M", help="Path or Hub id of a model; twice, base then chat, for a crosscoder."),
]
Tokenizer = Annotated[str | None, typer.Option(metavar="T", help="Path or Hub id, where the source names none.")]
Layer = Annotated[int | None, typer.Option(help="Layer that the dictionary reads, where it does not say.")]
Hook = Annotated[str | None, typer.Option("--hook", help="Hook point: resid_post, resid_pre, mlp_out, …")]
Which = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Selects one dictionary of many: width=16k, l0=71, subfolder=…"),
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; it must not exist.")]


class UsageError(ValueError):
    """The options do not go together."""

    exit_code = 2  # as the parser's own errors have it


@cli.callback(invoke_without_command=True)
def demo(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Give an error's traceback; any place will do.")] = False,
) -> None:
    """Look at the features of sparse autoencoders and crosscoders. With no command: the embedded demo."""
    if version:
        print(__version__)
    elif context.invoked_subcommand is None:
        launch()


def with_options(settings: Mapping[str, tuple[Any, str]], flags: Mapping[str, str]) -> Callable[[Any], Any]:
    """Gives a command an option for each setting: types and help stand where the setting does, and only there.

    The command's `**given` receives those that were written.

    Args:
        settings: the type and the help of each.
        flags: what an option is called, where it is not `--the-name`.
    """

    def decorate(command: Any) -> Any:
        options = []
        for name, (kind, says) in settings.items():
            flag = flags.get(name, "--" + name.replace("_", "-"))
            flag += f"/--no-{flag[2:]}" if "bool" in str(kind) else ""
            metavar = {"--model": "M", "--which": "KEY=VALUE", "--tokenizer": "T"}.get(flag)
            many = "tuple" in str(kind) or "Mapping[str" in str(kind)
            plain = next((k for k in (int, float, bool) if k.__name__ in str(kind)), str)
            given: Any = list[str] if many else plain
            annotation = Annotated[given | None, typer.Option(flag, help=says, metavar=metavar)]
            options.append(Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
        own = [p for p in signature(command, eval_str=True).parameters.values() if p.kind is not Parameter.VAR_KEYWORD]

        @wraps(command)
        def run(**words: Any) -> None:
            written = {name: v for name, v in words.items() if v is not None or name not in settings}
            for name, (kind, _) in settings.items():
                if "Mapping[str" in str(kind) and name in written:
                    written[name] = _pairs(written[name])
            command(**written)

        run.__signature__ = Signature([*own, *options])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in (*own, *options)}
        return run

    return decorate


def _check_mcp() -> None:
    """Gradio serves without MCP, in a line of its log, where the package is not the one that it knows."""
    try:
        found = version("mcp")
    except PackageNotFoundError as error:
        raise ModuleNotFoundError("--mcp needs an extra: install tiny-dashboard with [mcp]") from error
    if int(found.partition(".")[0]) >= 2:
        raise ModuleNotFoundError(f"--mcp needs mcp below 2, and {found} is installed: pip install 'mcp<2'")


@cli.command()
@with_options(
    {
        name: (field.annotation, str(field.description))
        for name, field in DashboardConfig.model_fields.items()
        if name not in ("start", "view", "name")
    },
    flags={"models": "--model", "hook_point": "--hook"},
)
def launch(
    config: Annotated[Path | None, typer.Argument(metavar="dashboard.toml", help="What to show.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    share: Annotated[bool, typer.Option("--share", help="Make a public link.")] = False,
    mcp: Annotated[bool, typer.Option("--mcp", help="Serve the endpoints as MCP tools too.")] = False,
    **given: Any,
) -> None:
    """Show a dashboard; options override what the file says. With neither: the embedded demo."""
    if mcp:
        _check_mcp()
    settings = None
    if config is not None or given:
        written = DashboardConfig.read(config) if config is not None else DashboardConfig()
        alone = given["models"] if config is None and list(given) == ["models"] else []
        if len(alone) == 1 and Path(alone[0]).is_dir():
            written, given = DashboardConfig.demo(model=alone[0]), {}
        settings = written.but(given, "the command line")
        for view in settings.views:
            where = f"view {view.name!r}: " if view.name else ""
            if bool(view.models) != bool(view.dictionary):
                raise UsageError(f"{where}the online tab needs both --model and --dictionary")
            if view.examples is None and view.dictionary is None:
                raise UsageError(f"{where}there is nothing to show: name --examples, or --model and --dictionary")

    from tiny_dashboard.app.launch import launch as open_app

    options: dict[str, Any] = {"server_name": host, "server_port": port, "share": share, "mcp_server": mcp}
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends it as Ctrl-C does
    try:
        open_app(settings, **{name: value for name, value in options.items() if value})
    except OSError as error:
        if port is None or "server_port" not in str(error):
            raise
        raise OSError(f"port {port} is in use, or not allowed; give another with --port") from error


@cli.command()
def info(source: Shown) -> None:
    """What is this: format, features, examples, tokenizer, models; of a dashboard.toml, what each view needs."""
    if Path(source).suffix == ".toml":
        for view in DashboardConfig.read(source).views:
            _print_facts(view.facts())
        return
    from tiny_dashboard.sources.describe import facts_of

    _print_facts(facts_of(source))


def _print_facts(facts: Mapping[str, Any]) -> None:
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        print(_one_line(f"{name}:").ljust(width), _one_line("not said" if value in (None, "") else value))


@cli.command()
def export(
    source: Shown,
    out: Annotated[Path, typer.Option(metavar="PATH", help="What to write: report.html, or a folder with --site.")],
    features: Annotated[str | None, typer.Option(help="Which: 1,2,5-9; all of them in a site.")] = None,
    site: Annotated[bool, typer.Option("--site", help="Write a static site: index, search and every feature.")] = False,
    tokenizer: Tokenizer = None,
) -> None:
    """Write features as one self-contained HTML page, or as a static site."""
    from tiny_dashboard.core.text import parse_features
    from tiny_dashboard.dashboards.offline import OfflineDashboard

    try:
        chosen = None if features is None else parse_features(features)
    except ValueError as error:
        raise UsageError(f"--features: {error}") from error
    if not chosen and (features is not None or not site):
        raise UsageError("--features names none; write them as in 1,2,5-9, or all of them with --site")
    if site and Path(source).suffix == ".toml":
        from tiny_dashboard.publish.site import SiteView, export_views

        config = DashboardConfig.read(source)
        opened = [(view.open_offline(), view) for view in config.views]
        shown = [SiteView(off, v.name, v.description, v.feature) for off, v in opened if off is not None]
        if not shown:
            raise UsageError(f"{source} names no examples, which are what a site shows")
        print(export_views(shown, out, chosen, title=config.title, progress=sys.stderr.isatty()))
        return
    dashboard = OfflineDashboard.open(source, tokenizer)
    if site:
        from tiny_dashboard.publish.site import export_site

        print(export_site(dashboard, out, chosen, title=Path(source).name, progress=sys.stderr.isatty()))
    elif chosen:
        print(dashboard.export_to_html(out, chosen[0] if len(chosen) == 1 else chosen))


@cli.command()
def convert(
    source: Source,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write; it must not exist.")],
    tokenizer: Tokenizer = None,
) -> None:
    """Write any examples format as a dataset of ours."""
    from tiny_dashboard.sources.convert import convert as write

    print(write(source, folder, tokenizer=tokenizer, progress=sys.stderr.isatty()))


@cli.command()
@with_options(
    {name: option for name, option in CollectSettings.options().items() if name not in ("metadata", "dtype")}
    | {"memory": ("float", "Gigabytes for the state and the codes of a batch.")},
    flags={"hook_point": "--hook", "max_tokens": "--tokens", "checkpoint_minutes": "--save-every"},
)
def collect(
    dictionary: Annotated[str, typer.Option(metavar="SRC", help="SAE, transcoder or crosscoder.")],
    corpus: Annotated[str, typer.Option(metavar="SRC", help="Texts or chats: a file, a folder or a Hub dataset id.")],
    out: Out,
    model: Models = None,
    ray: Annotated[bool, typer.Option("--ray", help="Run the shards on a Ray cluster; always resumes.")] = False,
    gpus: Annotated[float, typer.Option(help="GPUs of one Ray worker.")] = 0,
    **given: Any,
) -> None:
    """Find the strongest examples of every feature over a corpus."""
    if not model:
        raise UsageError("name the model with --model, or base and chat with --model twice")
    if ray and ("shard" in given or given.get("num_shards", 1) == 1):
        raise UsageError("--ray runs all shards: give --num-shards, several for each worker, and no --shard")
    if "memory" in given:
        given["memory"] *= 1e9
    if given.get("outlier_norm") == 0:
        given["outlier_norm"] = None
    if ray:
        from tiny_dashboard.collect.ray import collect_on_ray

        print(collect_on_ray(model, dictionary, corpus, out, gpus=gpus, **given))
    else:
        from tiny_dashboard.collect import collect_examples

        print(collect_examples(model, dictionary, corpus, out, **given))


@cli.command()
def recheck(
    source: Source,
    model: Models = None,
    dictionary: Annotated[str | None, typer.Option(metavar="SRC", help="None: as the examples name it.")] = None,
    sample: Annotated[int, typer.Option(help="So many stored examples.")] = 50,
    tokenizer: Tokenizer = None,
    layer: Layer = None,
    hook: Hook = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    which: Which = None,
) -> None:
    """Do stored examples agree with what the models give now; and if not, what single change would make them agree?"""
    from tiny_dashboard.collect import recheck as check

    where: dict[str, Any] = {"layer": layer, "hook_point": hook, "which": _pairs(which or ())}
    found = check(source, model, dictionary, sample=sample, tokenizer=tokenizer, device=device, **where)
    print(found)
    if not found.agrees:
        raise typer.Exit(1)


cli.command()(explain)
cli.add_typer(labels, name="labels")


@cli.command()
def merge(
    shards: Annotated[list[Path], typer.Argument(metavar="SHARD...", help="Folders that collect --shard wrote.")],
    out: Out,
    tokenizer: Tokenizer = None,
) -> None:
    """Merge the shards of a collection into one dataset."""
    from tiny_dashboard.collect import merge as join

    print(join(shards, out, tokenizer=tokenizer))


@cli.command()
def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A dataset that collect, merge or convert wrote.")],
    dataset: Annotated[str, typer.Argument(metavar="HUB_DATASET", help="owner/name; made where there is none.")],
    private: Annotated[bool, typer.Option("--private", help="Make it a private one.")] = False,
) -> None:
    """Upload a dataset to the Hub; the same again goes on where an upload broke off."""
    from tiny_dashboard.publish.push import push_dataset

    print(push_dataset(folder, dataset, private=private))


@cli.command()
def deploy(
    space: Annotated[str, typer.Argument(metavar="HUB_SPACE", help="owner/name; made where there is none.")],
    config: Annotated[Path | None, typer.Argument(metavar="dashboard.toml", help="None: the embedded demo.")] = None,
    static: Annotated[bool, typer.Option("--static", help="The offline tab only, as a static site.")] = False,
    private: Annotated[bool, typer.Option("--private", help="For a Space that is made.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, show what would be uploaded, and stop.")] = False,
) -> None:
    """Put a dashboard on a Hugging Face Space, or update it there."""
    from tiny_dashboard.publish.deploy import deploy as upload

    done = upload(space, config, static=static, private=private, dry_run=dry_run)
    if not dry_run:
        print(f"{done.url}\n{done.embed}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 1 for a failure, 2 for a wrong call, 130 when interrupted."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    command = typer.main.get_command(cli)
    if not sys.stderr.isatty():  # logs and pipes get no progress bars; huggingface_hub and transformers read this
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        # Not `cli()`, which prints usage errors in several lines, and others as a traceback.
        context = command.make_context("tiny-dashboard", [word for word in words if word != "--verbose"])
        with context, warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: print(f"warning: {_one_line(message)}", file=sys.stderr)
            command.invoke(context)
        return 0
    except typer.Exit as done:
        return done.exit_code
    except (Exception, KeyboardInterrupt) as error:
        if "--verbose" in words:
            traceback.print_exc()
        print(f"error: {_message(error)}", file=sys.stderr)
        # By this number, since the classes of the parser's own errors moved between versions of typer.
        usage = getattr(error, "exit_code", None) == 2
        return 130 if isinstance(error, KeyboardInterrupt) else 2 if usage else 1


def _message(error: BaseException) -> str:
    """An error in one line."""
    shown = getattr(error, "format_message", None)
    # str() of a KeyError puts its message in quotes.
    text = shown() if shown else str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    told = isinstance(error, ValueError | OSError | LookupError | ImportError | KeyboardInterrupt)
    if not text or not (shown or told):
        text = f"{type(error).__name__}: {text}".removesuffix(": ")
    lines = [line for part in (text, *getattr(error, "__notes__", ())) for line in part.splitlines()]
    return _one_line("; ".join(line.strip() for line in lines if line.strip()))


def _one_line(value: Any) -> str:
    """A text as one line of printable characters: what it quotes may come from anywhere."""
    line = " ".join(str(value).split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def _pairs(words: Sequence[str]) -> dict[str, Any]:
    """`KEY=VALUE`, numbers and true/false as such."""
    chosen: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals):
            raise UsageError(f"--which {word} is not of the form KEY=VALUE")
        try:
            chosen[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            chosen[key] = value
    return chosen


if __name__ == "__main__":
    sys.exit(main())

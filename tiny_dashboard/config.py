"""`DashboardConfig`: what a dashboard is made of; `dashboard.toml`, the environment and the command line fill it."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tiny_dashboard.hub import Download, has_weights

if TYPE_CHECKING:
    from tiny_dashboard.dashboards.offline import OfflineDashboard
    from tiny_dashboard.dashboards.online import OnlineDashboard
    from tiny_dashboard.models.loading import Fitted

_VARIABLE = "TINY_DASHBOARD_"
_PATHS = ("examples", "dictionary", "tokenizer")
_EXPECTED = {  # of a setting whose type names this, the first that it names
    "Start": "tables, each with a title in quotes, and a feature (a whole number) or a text",
    "tuple": "a list of paths or Hub ids",
    "Mapping[str": "a table",
    "str": "a text in quotes",
    "int": "a whole number",
}
Names = Annotated[tuple[str, ...], Field(strict=False)]  # TOML has lists


class Start(BaseModel):
    """Where a newcomer may begin: a feature's examples, or a text that is analysed, as a chat or with that feature.

    With `steer`, features as one types them, the model answers the text, steered by `strength` times their maxima, and
    without.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    title: str
    feature: int | None = Field(default=None, ge=0)
    text: str = ""
    chat: bool = False
    steer: str = ""
    strength: float = Field(default=1.0, strict=False)


class DashboardConfig(BaseModel):
    """What to show, and from where. Each setting says what it is in its `description`, as the command line does."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    title: str = Field(default="tiny-dashboard", description="The heading, as plain text.")
    description: str = Field(default="", description="The line under the heading, as plain text.")
    examples: str | Mapping[Any, Any] | None = Field(default=None, description="Examples: a path or a Hub dataset id.")
    labels: str | None = Field(default=None, description="Labels: a .jsonl file, or a Hub dataset.")
    label_authors: Names | None = Field(
        default=None, description="Hub accounts that may label, or anyone; else this machine's browser only."
    )
    llm: str | None = Field(default=None, description="Language model that those who label may ask for a name.")
    llm_url: str | None = Field(default=None, description="Its OpenAI-compatible server; else the Hub's providers.")
    dictionary: str | None = Field(default=None, description="SAE, transcoder or crosscoder: a path or a Hub id.")
    which: Mapping[str, Any] = Field(
        default={}, description="Selects one dictionary of many: width=16k, l0=71, subfolder=…"
    )
    models: Names = Field(default=(), description="Path or Hub id of a model; two, base then chat, for a crosscoder.")
    tokenizer: str | None = Field(
        default=None, description="Path or Hub id, where neither models nor examples name it."
    )
    layer: int | None = Field(default=None, ge=0, description="Layer that the dictionary reads, where it does not say.")
    hook_point: str | None = Field(default=None, description="Where it reads: resid_post, resid_pre, mlp_out, …")
    device: str = Field(default="auto", description="Of the models: auto, cpu, cuda, …")
    dtype: str = Field(default="auto", description="Of the models: auto, float32, bfloat16, …")
    window_size: int = Field(default=50, ge=0, description="Tokens shown on each side of the peak.")
    max_examples: int = Field(default=30, ge=1, description="Examples shown of a feature.")
    feature: int | None = Field(default=None, ge=0, description="The feature shown first; else the first there is.")
    start: Annotated[tuple[Start, ...], Field(strict=False)] = Field(
        default=(), description="Starting points, offered as chips; the first text is analysed before anybody types."
    )
    max_text: int = Field(default=20_000, ge=1, description="Characters of text in one request, at most.")
    panels: Names = Field(default=(), description="More panels of the card: module:function of each.")
    max_new_tokens: int = Field(default=128, ge=1, description="Tokens generated in one request, at most.")
    name: str = Field(default="", description="What the picker of views calls this one.")
    view: tuple[Any, ...] = Field(
        default=(),
        description="Several views: tables of these settings, each with a name; the others are common to all.",
    )
    max_loaded: int | None = Field(
        default=None, ge=1, description="Views whose models stay loaded; else all that were looked at."
    )

    @property
    def views(self) -> tuple[Self, ...]:
        """The views: one, where no others are said."""
        return self.view or (self,)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a TOML file; names in it that are paths relative to its folder are found there.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not TOML, or has a key or a type that is not known.
        """
        path = Path(path).expanduser()
        return cls.of(_toml(path), path, path.parent)

    @classmethod
    def of_space(cls, folder: str | Path, variables: Mapping[str, str]) -> Self:
        """What a Space shows: its dashboard.toml, and over it its variables; the embedded demo where there is neither.

        Args:
            folder: the Space's files.
            variables: the environment; TINY_DASHBOARD_EXAMPLES sets `examples`, and so on for each setting. A text
                stands without quotes, models with commas between them, anything else as in TOML.
        """
        folder = Path(folder)
        path = folder / "dashboard.toml"
        given = cls.of(_toml(path), path, folder) if path.exists() else None
        values: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            variable = _VARIABLE + name.upper()
            text = variables.get(variable, "").strip()
            if text:
                values[name] = getattr(cls.of({name: _typed(text, field, variable)}, variable, folder), name)
        if given is None and not values:
            return cls.demo(here_first=False)
        return (given or cls()).but(values, "the variables")

    @classmethod
    def demo(cls, *, here_first: bool = True, model: str = "") -> Self:
        """The embedded demo: a SAE of a small model of the Hub, and a crosscoder of a pair that is embedded, too.

        Args:
            here_first: the views whose models are on this machine come first; nothing is asked of the Hub.
            model: a folder with a copy of the small model.
        """
        demo = cls.read(Path(__file__).parent / "demo" / "dashboard.toml")
        copied = {"models": (model,)} if model else {}
        views = [view.model_copy(update=copied) if len(view.models) == 1 else view for view in demo.view]
        views = sorted(views, key=lambda view: bool(view.missing_models())) if here_first else views
        return demo.model_copy(update={"view": tuple(views)})

    @classmethod
    def of(cls, values: Mapping[str, Any], origin: object, folder: Path | None = None) -> Self:
        """Settings from plain values.

        Args:
            values: by name.
            origin: where they come from, for errors: a file, a variable, an option.
            folder: where names that are relative paths are looked for; None leaves them as they are.

        Raises:
            ValueError: a setting is not known, or not of its kind; its value and what is expected are said.
        """
        values = _with_models(values, origin, folder)
        tables = values.pop("view", ())
        try:
            settings = cls(**values)
        except ValidationError as error:
            raise ValueError(f"{origin}: {_in_words(cls, values, error)}") from None
        if tables:
            settings = settings.model_copy(update={"view": cls._of_tables(tables, values, origin, folder)})
        if folder is None:
            return settings
        found: dict[str, Any] = {"models": tuple(_resolve(folder, name) for name in settings.models)}
        found |= {name: _resolve(folder, getattr(settings, name)) for name in _PATHS}
        if settings.labels is not None and settings.labels.endswith(".jsonl"):  # which may not be there yet
            found["labels"] = str(folder / Path(settings.labels).expanduser())
        return settings.model_copy(update=found)

    @classmethod
    def _of_tables(
        cls, tables: Any, common: Mapping[str, Any], origin: object, folder: Path | None
    ) -> tuple[DashboardConfig, ...]:
        """The views, each with what is common to all."""
        if not isinstance(tables, Sequence) or not all(isinstance(table, Mapping) for table in tables):
            raise ValueError(f"{origin}: view is {repr(tables)[:200]}; it must be tables, each begun by [[view]]")
        names = [table.get("name") for table in tables]
        if any("view" in table for table in tables):
            raise ValueError(f"{origin}: a view has no views of its own")
        if not all(names) or len({*map(str, names)}) < len(names):
            raise ValueError(f"{origin}: each [[view]] needs a name of its own; they are {names}")
        return tuple(
            cls.of({**common, **_with_models(table, where, folder)}, where, folder)
            for table in tables
            for where in [f"{origin}, view {table['name']!r}"]
        )

    def but(self, values: Mapping[str, Any], origin: object) -> Self:
        """The same with other values, in all views; errors are those of `of`."""
        views = tuple(view.but(values, origin) for view in self.view)
        own = {name: value for name, value in self if name != "view"}
        return type(self).of(own | dict(values), origin).model_copy(update={"view": views})

    def facts(self) -> dict[str, Any]:
        """What the view is called, and what it needs; nothing is opened."""
        missing = self.missing_models()
        models = [f"{model} ({'from the Hub' if model in missing else 'here'})" for model in self.models]
        which = ", ".join(f"{name}={value}" for name, value in self.which.items())
        facts = {
            "view": self.name or self.title,
            "examples": self.examples if isinstance(self.examples, (str, type(None))) else "a dict",
            "dictionary": f"{self.dictionary} {which}".strip() if self.dictionary else None,
            "models": ", ".join(models),
            "layer": self.layer,
            "hook point": self.hook_point,
        }
        return {name: value for name, value in facts.items() if value not in (None, "")}

    def missing_models(self) -> list[str]:
        """The models that are not on this machine; nothing is asked of the Hub."""
        return [model for model in self.models if not has_weights(model)]

    def downloads(self) -> list[Download]:
        """How far the download of each of these is.

        Raises:
            FileNotFoundError, PermissionError, ConnectionError: see `hub.look_up`.
        """
        return list(map(Download, self.missing_models()))

    def open_offline(self) -> OfflineDashboard | None:
        """The examples; None where none are configured."""
        if self.examples is None:
            return None
        from tiny_dashboard.core.card import PANELS
        from tiny_dashboard.dashboards.offline import OfflineDashboard

        return OfflineDashboard.open(
            self.examples,
            self.tokenizer,
            window_size=self.window_size,
            max_examples=self.max_examples,
            panels=(*PANELS, *map(_function, self.panels)),
            labels=self.labels,
        )

    def open_dictionary(self) -> Fitted:
        """The dictionary, and the layer and hook point that it reads; the models' configs are held against it.

        Raises:
            ValueError: dictionary, models or layer are missing, or they do not fit.
        """
        from tiny_dashboard.models.loading import load_fitting

        return load_fitting(**self._online())

    def open_online(
        self,
        max_acts: Mapping[int, float] | None = None,
        *,
        dictionary_device: str | None = None,
        load: Callable[[Any, Any, Any], Any] | None = None,
    ) -> OnlineDashboard:
        """Load models and dictionary; errors are those of `open_dictionary`.

        Args:
            max_acts: as for `OnlineDashboard`.
            dictionary_device: None is `device`.
            load: what loads a model, as `models.sharing.SharedModels.load`.
        """
        from tiny_dashboard.dashboards.featurized import FeaturizerDashboard
        from tiny_dashboard.models.loading import load_featurizer

        how: dict[str, Any] = {"tokenizer": self.tokenizer, "dtype": self.dtype, "dictionary_device": dictionary_device}
        how |= {} if load is None else {"load": load}
        featurizer = load_featurizer(**self._online(), **how)
        dashboard = FeaturizerDashboard(featurizer, self.window_size, max_acts)
        dashboard.max_new_tokens = self.max_new_tokens
        return dashboard

    def _online(self) -> dict[str, Any]:
        if self.dictionary is None or not self.models:
            raise ValueError(
                f"the online tab needs a dictionary and its models; configured are dictionary {self.dictionary!r} and "
                f"models {list(self.models)}"
            )
        where = {name: getattr(self, name) for name in ("dictionary", "models", "layer", "hook_point", "device")}
        return where | {"select": self.which}


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from error


def _with_models(values: Mapping[str, Any], origin: object, folder: Path | None) -> dict[str, Any]:
    """The settings, where `model` is the one of `models`, and a table in place of a name says a folder."""
    values = dict(values)
    if "model" in values and "models" in values:
        raise ValueError(f"{origin}: model and models are both set; name all in models")
    if "model" in values:
        values["models"] = [values.pop("model")]
    if isinstance(values.get("models"), Sequence) and not isinstance(values["models"], str):
        values["models"] = [_model(name, origin, folder or Path()) for name in values["models"]]
    return values


def _model(name: Any, origin: object, beside: Path) -> Any:
    """A model's name; a table's folder must be there, and is never a name on the Hub."""
    if not isinstance(name, Mapping):
        return name
    if list(name) != ["folder"] or not isinstance(name["folder"], str):
        raise ValueError(f'{origin}: a model is {dict(name)}; write a path or a Hub id, or {{ folder = "…" }}')
    path = beside / Path(name["folder"]).expanduser()
    if not path.is_dir():
        raise ValueError(f"{origin}: a model's folder is {name['folder']!r}, and there is none at {path}")
    return str(path.resolve())


def _typed(text: str, field: Any, variable: str) -> Any:
    """What stands in a variable, as TOML would give it."""
    if _kind(field) == "tuple":
        return [name.strip() for name in text.split(",")]
    if _kind(field) == "str":
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{variable} is {text!r}; write it as in TOML") from error


def _in_words(model: type[BaseModel], values: Mapping[str, Any], error: ValidationError) -> str:
    """The first thing that is wrong, with its value and what is expected."""
    first = error.errors()[0]
    name = str(first["loc"][0])
    if name not in model.model_fields:
        return f"there is no setting {name!r}; there are {', '.join(model.model_fields)}"
    if first["type"] == "greater_than_equal":
        expected = f"at least {first['ctx']['ge']}"
    else:
        expected = _EXPECTED[_kind(model.model_fields[name])]
    return f"{name} is {repr(values[name])[:200]}; it must be {expected}"


def _kind(field: Any) -> str:
    """What TOML gives for a setting."""
    annotation = str(field.annotation)
    return next(kind for kind in _EXPECTED if kind in annotation)


def _function(name: str) -> Any:
    """What `module:function` names.

    Raises:
        ValueError: there is no such module, or nothing of that name in it.
    """
    module, _, function = name.partition(":")
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"panels names {name!r}: {error}; write module:function, as Python imports it") from error


def _resolve(folder: Path, name: Any) -> Any:
    """A path relative to `folder` where there is one, else the name as it is: a Hub id."""
    if not isinstance(name, str):
        return name
    path = folder / Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name

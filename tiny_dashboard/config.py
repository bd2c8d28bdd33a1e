"""`DashboardConfig`: what a dashboard is made of; the CLI, a Space and the demo read it from `dashboard.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_dashboard.dashboards.offline import OfflineDashboard
from tiny_dashboard.dashboards.online import OnlineDashboard
from tiny_dashboard.hub import load_config, load_model, load_tokenizer

if TYPE_CHECKING:
    from tiny_dashboard.dictionaries import Dictionary

_VARIABLE = "TINY_DASHBOARD_"
_PATHS = ("examples", "dictionary", "tokenizer")
_KINDS = {  # annotation -> what TOML gives for it, in Python and in words
    "str": (str, "a text in quotes"),
    "int": (int, "a whole number"),
    "tuple": (list, "a list of paths or Hub ids"),
    "Mapping": (dict, "a table"),
}


@dataclass(frozen=True)
class DashboardConfig:
    """What to show, and from where.

    Attributes:
        title, description: the heading and the line under it, as plain text.
        examples: a path or a Hub dataset id that `open_examples` reads; None leaves the offline tab empty.
        dictionary: a path or a Hub id that `load_dictionary` reads; None leaves the online tab empty.
        which: what selects one dictionary in a repository of many, as arguments of `load_dictionary`.
        models: paths or Hub ids: one model, or base and chat for a crosscoder.
        tokenizer: a path or a Hub id; None takes the last model's, or the one that the examples name.
        layer, hook_point: where the dictionary reads; None takes what the dictionary says.
        device, dtype: of the models: "auto", "cpu", "cuda", …; "auto", "float32", "bfloat16", …
        window_size, max_examples: see `OfflineDashboard`.
        feature: the feature shown first; None takes the first there is.
        max_text, max_new_tokens: limits of one request: characters of text, generated tokens.
    """

    title: str = "tiny-dashboard"
    description: str = ""
    examples: str | None = None
    dictionary: str | None = None
    which: Mapping[str, Any] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    tokenizer: str | None = None
    layer: int | None = None
    hook_point: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    window_size: int = 50
    max_examples: int = 30
    feature: int | None = None
    max_text: int = 20_000
    max_new_tokens: int = 128

    def __post_init__(self) -> None:
        least = {"layer": 0, "feature": 0, "window_size": 0, "max_examples": 1, "max_text": 1, "max_new_tokens": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"{name} is {value}; it must be at least {low}")

    @classmethod
    def read(cls, path: str | Path) -> DashboardConfig:
        """Read a TOML file; names in it that are paths relative to its folder are found there.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not TOML, or has a key or a type that is not known.
        """
        path = Path(path).expanduser()
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not a TOML file: {error}") from error
        return cls._of(values, path)

    @classmethod
    def of_space(cls, folder: str | Path, variables: Mapping[str, str]) -> DashboardConfig:
        """What a Space shows: its dashboard.toml, and over it its variables; the embedded demo where there is neither.

        Args:
            folder: the Space's files.
            variables: the environment; TINY_DASHBOARD_EXAMPLES sets `examples`, and so on for each setting. A text
                stands without quotes, models with commas between them, anything else as in TOML.
        """
        path = Path(folder) / "dashboard.toml"
        values: dict[str, Any] = {}
        for f in fields(cls):
            text = variables.get(_VARIABLE + f.name.upper(), "").strip()
            if not text:
                continue
            if f.name == "models":
                values[f.name] = [name.strip() for name in text.split(",")]
            elif str(f.type).startswith("str"):
                values[f.name] = text
            else:
                try:
                    values[f.name] = tomllib.loads(f"value = {text}")["value"]
                except tomllib.TOMLDecodeError as error:
                    raise ValueError(f"{_VARIABLE}{f.name.upper()} is {text!r}; write it as in TOML") from error
        if path.exists():
            values = tomllib.loads(path.read_text(encoding="utf-8")) | values
        return cls._of(values, path) if values else cls.demo()

    @classmethod
    def _of(cls, values: dict[str, Any], path: Path) -> DashboardConfig:
        """Settings from `path`, checked."""
        kinds = {f.name: _KINDS[str(f.type).split(" ")[0].split("[")[0]] for f in fields(cls)}
        for key, value in values.items():
            if key not in kinds:
                raise ValueError(f"{path}: there is no setting {key!r}; there are {', '.join(kinds)}")
            kind, words = kinds[key]
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ValueError(f"{path}: {key} is {value!r}; it must be {words}")
        models = values.get("models", ())
        if not all(isinstance(name, str) for name in models):
            raise ValueError(f"{path}: models is {models!r}; it must be {_KINDS['tuple'][1]}")
        values["models"] = tuple(_resolve(path.parent, name) for name in models)
        values |= {key: _resolve(path.parent, values[key]) for key in _PATHS if key in values}
        try:
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def demo(cls) -> DashboardConfig:
        """The embedded demo: a small model pair, its crosscoder, and their examples."""
        return cls.read(Path(__file__).parent / "demo" / "dashboard.toml")

    def open_offline(self) -> OfflineDashboard | None:
        """The examples; None where none are configured."""
        if self.examples is None:
            return None
        tokenizer = self.tokenizer
        return OfflineDashboard.open(
            self.examples, tokenizer, window_size=self.window_size, max_examples=self.max_examples
        )

    def open_dictionary(self) -> tuple[Dictionary, int, str]:
        """The dictionary, and the layer and hook point that it reads; the models' configs are held against it.

        Raises:
            ValueError: dictionary, models or layer are missing, or they do not fit.
        """
        if self.dictionary is None or not self.models:
            raise ValueError(
                f"the online tab needs a dictionary and its models; configured are dictionary {self.dictionary!r} and "
                f"models {list(self.models)}"
            )
        from tiny_dashboard.dictionaries import load_dictionary
        from tiny_dashboard.hub import resolve_device
        from tiny_dashboard.models.featurizer import check_fit

        device = resolve_device(self.device)
        chosen = {"device": device, "layer": self.layer, "hook_point": self.hook_point} | dict(self.which)
        dictionary = load_dictionary(self.dictionary, **chosen)
        layer, hook_point = dictionary.layer, dictionary.hook_point or "resid_post"
        if layer is None:
            raise ValueError(f"{self.dictionary} does not say which layer it reads; set layer = N")
        # A mismatch is said before gigabytes of weights are loaded.
        check_fit([load_config(name) for name in self.models], dictionary, layer, hook_point)
        return dictionary, layer, hook_point

    def open_online(self, max_acts: Mapping[int, float] | None = None) -> OnlineDashboard:
        """Load models and dictionary; errors are those of `open_dictionary`."""
        dictionary, layer, hook_point = self.open_dictionary()

        from tiny_dashboard.dashboards.featurized import FeaturizerDashboard
        from tiny_dashboard.hub import resolve_device
        from tiny_dashboard.models.featurizer import Featurizer

        device = resolve_device(self.device)
        models = [load_model(name, self.dtype, device) for name in self.models]
        tokenizer = load_tokenizer(self.tokenizer or self.models[-1])
        featurizer = Featurizer(models, dictionary, tokenizer, layer, hook_point)
        dashboard = FeaturizerDashboard(featurizer, self.window_size, max_acts)
        dashboard.max_new_tokens = self.max_new_tokens
        return dashboard


def _resolve(folder: Path, name: str) -> str:
    """A path relative to `folder` where there is one, else the name as it is: a Hub id."""
    path = folder / Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name

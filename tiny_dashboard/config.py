"""`DashboardConfig`: what a dashboard is made of; the CLI, a Space and the demo read it from `dashboard.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tiny_dashboard.feature_centric_dashboards import (
    AbstractOnlineFeatureCentricDashboard,
    OfflineFeatureCentricDashboard,
    load_tokenizer,
)

_PATHS = ("examples", "dictionary", "models", "tokenizer")


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
        window_size, max_examples: see `OfflineFeatureCentricDashboard`.
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
        for key in _PATHS:
            if isinstance(values.get(key), list):
                values[key] = tuple(_resolve(path.parent, name) for name in values[key])
            elif key in values:
                values[key] = _resolve(path.parent, values[key])
        return cls.make(values, str(path))

    @classmethod
    def make(cls, values: Mapping[str, Any], where: str) -> DashboardConfig:
        """Check and take over settings; `where` they come from is named in errors."""
        known = {f.name: f.default for f in fields(cls)}
        for key, value in values.items():
            if key not in known:
                raise ValueError(f"{where}: there is no setting {key!r}; there are {', '.join(known)}")
            wanted = (int,) if key in ("layer", "feature") else (type(known[key]),)
            wanted = {"models": (tuple,), "which": (dict,)}.get(key, wanted)
            wanted = (str,) if wanted == (type(None),) else wanted
            if value is not None and (not isinstance(value, wanted) or isinstance(value, bool)):
                raise ValueError(f"{where}: {key} is {value!r}; it must be of type {wanted[0].__name__}")
        return cls(**values)

    @classmethod
    def demo(cls) -> DashboardConfig:
        """The embedded demo: a small model pair, its crosscoder, and their examples."""
        return cls.read(Path(__file__).parent / "demo" / "dashboard.toml")

    def open_offline(self) -> OfflineFeatureCentricDashboard | None:
        """The examples; None where none are configured."""
        if self.examples is None:
            return None
        tokenizer = self.tokenizer
        return OfflineFeatureCentricDashboard.open(
            self.examples, tokenizer, window_size=self.window_size, max_examples=self.max_examples
        )

    def open_online(self, max_acts: Mapping[int, float] | None = None) -> AbstractOnlineFeatureCentricDashboard:
        """Load models and dictionary.

        Raises:
            ValueError: dictionary, models or layer are missing, or they do not fit.
        """
        if self.dictionary is None or not self.models:
            raise ValueError(
                f"the online tab needs a dictionary and its models; configured are dictionary {self.dictionary!r} and "
                f"models {list(self.models)}"
            )
        from transformers import AutoConfig, AutoModelForCausalLM

        from tiny_dashboard.activations import resolve_device
        from tiny_dashboard.dashboard_implementations import FeaturizerDashboard
        from tiny_dashboard.dictionaries import load_dictionary
        from tiny_dashboard.featurizer import Featurizer, check_fit

        device = resolve_device(self.device)
        dictionary = load_dictionary(
            self.dictionary, device=device, layer=self.layer, hook_point=self.hook_point, **self.which
        )
        layer, hook_point = dictionary.layer, dictionary.hook_point or "resid_post"
        if layer is None:
            raise ValueError(f"{self.dictionary} does not say which layer it reads; set layer = N")
        # A mismatch is said before gigabytes of weights are loaded.
        configs = [AutoConfig.from_pretrained(name) for name in self.models]
        check_fit(configs, dictionary, layer, hook_point)
        models: list[Any] = [AutoModelForCausalLM.from_pretrained(name, dtype=self.dtype) for name in self.models]
        tokenizer = load_tokenizer(self.tokenizer or self.models[-1])
        featurizer = Featurizer([model.to(device) for model in models], dictionary, tokenizer, layer, hook_point)
        dashboard = FeaturizerDashboard(featurizer, self.window_size, max_acts)
        dashboard.max_new_tokens = self.max_new_tokens
        return dashboard


def _resolve(folder: Path, name: Any) -> Any:
    """A path relative to `folder` where there is one, else the name as it is: a Hub id, or an absolute path."""
    return str((folder / name).resolve()) if isinstance(name, str) and (folder / name).exists() else name

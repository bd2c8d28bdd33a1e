"""The ready-made online dashboards: models and a dictionary that run here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiny_dashboard.core.highlight import Color
from tiny_dashboard.dashboards.featurized import FeaturizerDashboard
from tiny_dashboard.feature_centric_dashboards import AbstractOnlineFeatureCentricDashboard
from tiny_dashboard.models.loading import load_featurizer


class CrosscoderOnlineFeatureDashboard(FeaturizerDashboard, AbstractOnlineFeatureCentricDashboard):
    """Features of a crosscoder that reads a base and a chat model at one layer.

    Args:
        base_model, instruct_model: Hugging Face causal language models, or their Hub ids or folders; an object that
            wraps one (nnsight's LanguageModel, TransformerLens's bridge, a pipeline) is unwrapped. They may be on
            different devices.
        crosscoder: a `Dictionary`, what `load_dictionary` reads, or any object with
            `get_activations(x[batch, 2, d], select_features=…)`.
        collect_layer: the layer whose output it reads, counted from 0.
        crosscoder_device: where the crosscoder computes; None leaves it where it is.
        max_acts: `{feature: maximum over a corpus}`, the scale of `max_act="auto"`.
        tokenizer: None takes the wrapper's own.
    """

    def __init__(
        self,
        base_model: Any,
        instruct_model: Any,
        crosscoder: Any,
        collect_layer: int,
        window_size: int = 50,
        crosscoder_device: str | None = None,
        max_acts: Mapping[int, float] | None = None,
        *,
        tokenizer: Any = None,
        hook_point: str | None = None,
        second_highlight_color: Color | None = None,
    ) -> None:
        where: dict[str, Any] = {
            "layer": collect_layer,
            "hook_point": hook_point,
            "dictionary_device": crosscoder_device,
        }
        featurizer = load_featurizer(crosscoder, [base_model, instruct_model], tokenizer, **where)
        super().__init__(featurizer, window_size, max_acts, second_highlight_color)


class SAEOnlineFeatureDashboard(FeaturizerDashboard, AbstractOnlineFeatureCentricDashboard):
    """Features of an SAE or a transcoder that reads one model.

    Args:
        model: a Hugging Face causal language model, its Hub id or folder, or an object that wraps one.
        sae: a `Dictionary`, what `load_dictionary` reads, an SAE of sae_lens, sparsify or dictionary_learning, any
            object with `encode(x[seq, d])`, or such a function.
        collect_layer: the layer that it reads, counted from 0, or the name of a place ("blocks.5.hook_resid_post");
            None where the SAE says it.
        sae_device: where the SAE computes; None leaves it where it is.
        max_acts: `{feature: maximum over a corpus}`, the scale of `max_act="auto"`.
        hook_point: "resid_post", "resid_pre", "mlp_out", …; None where the SAE says it.
        tokenizer: None takes the wrapper's own.
    """

    def __init__(
        self,
        model: Any,
        sae: Any,
        collect_layer: int | str | None = None,
        window_size: int = 50,
        sae_device: str | None = None,
        max_acts: Mapping[int, float] | None = None,
        *,
        hook_point: str | None = None,
        tokenizer: Any = None,
        second_highlight_color: Color | None = None,
    ) -> None:
        where: dict[str, Any] = {"layer": collect_layer, "hook_point": hook_point, "dictionary_device": sae_device}
        featurizer = load_featurizer(sae, [model], tokenizer, **where)
        super().__init__(featurizer, window_size, max_acts, second_highlight_color)

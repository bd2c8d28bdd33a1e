"""An online dashboard made of functions: whatever computes activations, and whatever answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiny_dashboard.dashboards.online import OnlineDashboard


class FunctionDashboard(OnlineDashboard):
    """An online dashboard made of functions.

    Args:
        get_feature_activation: `(text, feature_indices) -> [seq_len, n_features]`.
        tokenizer: the model's Hugging Face tokenizer.
        generate_model_response: `(text) -> text with the answer behind it`; None generates with `model`.
        call_with_self: call the functions with the dashboard as first argument.
        model, window_size, kwargs: as for `OnlineDashboard`.
    """

    def __init__(
        self,
        get_feature_activation: Callable[..., Any],
        tokenizer: Any,
        generate_model_response: Callable[..., str] | None = None,
        call_with_self: bool = False,
        model: Any = None,
        window_size: int = 50,
        **kwargs: Any,
    ) -> None:
        super().__init__(tokenizer, model, window_size, **kwargs)
        self._activation_function = get_feature_activation
        self._response_function = generate_model_response
        self._first = (self,) if call_with_self else ()

    @property
    def can_generate(self) -> bool:
        return self.model is not None or self._response_function is not None

    def get_feature_activation(self, text: str, feature_indices: tuple[int, ...]) -> Any:
        return self._activation_function(*self._first, text, feature_indices)

    def generate_model_response(self, text: str) -> str:
        if self._response_function is None:
            return super().generate_model_response(text)
        return self._response_function(*self._first, text)

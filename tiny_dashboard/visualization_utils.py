"""One call, no dashboard: highlight tokens that you have activations for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tiny_dashboard.core.highlight import COLORS, Color, Html, Passage, Track, passage_html
from tiny_dashboard.core.static import assets, page
from tiny_dashboard.core.text import token_texts


def activation_visualization(
    tokens: Sequence[str] | Sequence[int],
    activations: Any,
    tokenizer: Any = None,
    highlight_idx: int | Sequence[int] | None = None,
    title: str = "",
    color1: Color = COLORS[0],
    color2: Color | None = None,
    activation_names: Sequence[str] | None = None,
    relative_normalization: bool = True,
    tooltip_features: int | Sequence[int] | None = None,
    highlight_features_in_tooltip: bool = True,
) -> Html:
    """Highlight tokens by their activations, on a self-contained page that also shows itself in a notebook.

    Args:
        tokens: token pieces or vocabulary ids, `[seq_len]`.
        activations: `[seq_len]`, or `[seq_len, n_features]` with a column for each feature; a tensor, an array or
            lists. NaN is "no value".
        tokenizer: the Hugging Face tokenizer of the tokens; None reads pieces by their own marks.
        highlight_idx: the column, or the one or two columns, that colour the tokens; None takes the first two.
        title: a heading, as plain text.
        color1, color2: of the highlighted columns, `#rrggbb` or three numbers in 0..255; None takes the palette's.
        activation_names: a name for each column; None counts them.
        relative_normalization: give each highlighted column its own scale; False lets two columns share one.
        tooltip_features: the columns that the tooltip names; None takes all.
        highlight_features_in_tooltip: name the highlighted columns in the tooltip, whatever `tooltip_features` says.

    Raises:
        ValueError: the shape does not fit the tokens, a column does not exist, or a value is infinite.
    """
    values = _as_columns(activations, len(tokens))
    n_features = values.shape[1]
    names = list(activation_names) if activation_names is not None else [f"feature {i}" for i in range(n_features)]
    if len(names) != n_features:
        raise ValueError(f"{len(names)} activation_names for {n_features} columns; give one for each")
    highlighted = _columns(highlight_idx, n_features, range(min(2, n_features)))
    if len(highlighted) > 2:
        raise ValueError(
            f"{len(highlighted)} columns are to be highlighted; choose one or two, and the others as tooltip_features"
        )
    in_tooltip = _columns(tooltip_features, n_features, range(n_features))
    scale = None
    if not relative_normalization:
        scale = float(np.abs(np.nan_to_num(values[:, highlighted])).max(initial=0.0)) or None
    # The first one that is named is the first: it takes color1 and the upper band.
    tracks = [
        Track(names[i], values[:, i], color, scale=scale, in_tooltip=highlight_features_in_tooltip or i in in_tooltip)
        for i, color in zip(highlighted, (color1, color2), strict=False)
    ]
    tracks += [Track(names[i], values[:, i], highlighted=False) for i in in_tooltip if i not in highlighted]
    texts, chips = token_texts(tokens, tokenizer)
    ids = None if len(tokens) and isinstance(tokens[0], str) else [int(t) for t in tokens]
    return page(passage_html(Passage(texts, tracks, chips, ids), title=title), title=title, **assets())


def _as_columns(activations: Any, n_tokens: int) -> np.ndarray:
    """Activations as `[seq_len, n_features]`."""
    try:
        values = np.array(activations.tolist() if hasattr(activations, "tolist") else activations, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"activations are not an array of numbers but {str(activations)[:80]}: {error}") from error
    if values.ndim not in (1, 2) or len(values) != n_tokens:
        raise ValueError(
            f"activations have shape {values.shape} for {n_tokens} tokens; give [{n_tokens}] or "
            f"[{n_tokens}, n_features]{', with no batch dimension' if values.ndim > 2 else ''}"
        )
    return values[:, None] if values.ndim == 1 else values


def _columns(chosen: int | Sequence[int] | None, n_features: int, default: range) -> list[int]:
    if chosen is None:
        return list(default)
    columns = np.ravel(chosen.tolist() if hasattr(chosen, "tolist") else chosen).tolist()
    for column in columns:
        if not isinstance(column, int) or not 0 <= column < n_features:
            raise ValueError(f"column {column} is asked for, and activations have {n_features}: 0 to {n_features - 1}")
    return list(dict.fromkeys(columns))

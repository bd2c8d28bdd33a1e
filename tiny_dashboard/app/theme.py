"""The look of Gradio's own parts; `core/static/dashboard.css` has that of ours."""

from __future__ import annotations

import gradio as gr


def theme() -> gr.themes.Base:
    """Quiet surfaces, thin lines, ink: colour belongs to the highlights."""
    base = gr.themes.Base(
        primary_hue=gr.themes.colors.gray,
        neutral_hue=gr.themes.colors.gray,
        radius_size=gr.themes.sizes.radius_md,
        font=["system-ui", "-apple-system", "Segoe UI", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    surfaces = {  # light, dark
        "body_background_fill": ("#ffffff", "#161718"),
        "background_fill_primary": ("#ffffff", "#161718"),
        "background_fill_secondary": ("#f6f7f8", "#1c1e20"),
        "block_background_fill": ("transparent", "transparent"),
        "block_border_width": ("0px", "0px"),
        "border_color_primary": ("#e3e6ea", "#2b2f33"),
        "input_background_fill": ("#ffffff", "#1a1c1e"),
        "input_border_color": ("#e3e6ea", "#2b2f33"),
        "input_border_width": ("1px", "1px"),
        "button_secondary_background_fill": ("#f6f7f8", "#1f2224"),
        "button_secondary_background_fill_hover": ("#eceef1", "#282c2f"),
        "button_secondary_border_color": ("#e3e6ea", "#2b2f33"),
        "button_secondary_text_color": ("#4b5563", "#a8b0b8"),
        "button_primary_background_fill": ("#374151", "#d7dbe0"),
        "button_primary_background_fill_hover": ("#1f2937", "#ffffff"),
        "button_primary_text_color": ("#ffffff", "#161718"),
        "button_primary_border_color": ("*button_primary_background_fill", "*button_primary_background_fill"),
    }
    return base.set(
        **{name: light for name, (light, _) in surfaces.items()},
        **{f"{name}_dark": dark for name, (_, dark) in surfaces.items()},
        color_accent="#374151",  # in the dark the style sheet has a lighter one: text in it keeps its contrast
        body_text_color_subdued="*neutral_500",
        block_padding="0px",
        block_title_text_size="*text_sm",
        button_border_width="1px",
        button_large_text_weight="450",
        button_large_text_size="*text_md",
    )

"""Opacity and contrast of what is highlighted: WCAG 2.2, by code of its own."""

from __future__ import annotations

import math
import re

from tiny_dashboard.core.highlight import max_alpha, min_alpha


def alpha_of(style: str, band: int = 0) -> int:
    found = re.findall(r"#[0-9a-f]{6}([0-9a-f]{2})|#0000", style)
    return int(found[band] or "0", 16)


def luminance(rgb):
    total = 0.0
    for value, weight in zip(rgb, (0.2126, 0.7152, 0.0722), strict=True):
        value /= 255
        total += weight * (value / 12.92 if value <= 0.03928 else math.pow((value + 0.055) / 1.055, 2.4))
    return total


def rgb(color):
    return [int(color[i : i + 2], 16) for i in (1, 3, 5)]


def contrast_on(ink, ground, color, alpha):
    """Contrast of `ink` on `color` with opacity alpha/255 over `ground`."""
    mixed = [(c * alpha + g * (255 - alpha)) / 255 for c, g in zip(rgb(color), rgb(ground), strict=True)]
    pair = sorted([luminance(rgb(ink)), luminance(mixed)])
    return (pair[1] + 0.05) / (pair[0] + 0.05)


def shade(color, share):
    """The opacity, 0 to 255, of a value that is `share` of the scale's end: linear above a floor."""
    return round(255 * (min_alpha(color) + (max_alpha(color) - min_alpha(color)) * share))

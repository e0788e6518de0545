"""Self-contained HTML pages: Jinja2 templates with autoescape, and the pictures inside them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from jinja2 import Environment, PackageLoader, StrictUndefined

JPEG_QUALITY = 88

PAGE_MARK = b'<meta name="generator" content="aupipe">'
"""What every page holds, so that it is known as one of ours."""


def render(template: str, **values: Any) -> str:
    """Render a template of ``templates/`` as text.

    Args:
        template: its name without ``.html.j2``.
        values: what it names; every text among them is escaped, whatever it holds.

    Raises ``jinja2.UndefinedError`` when the template names a value that was not given.
    """
    return _environment().get_template(f"{template}.html.j2").render(values)


@cache
def _environment() -> Environment:
    loader = PackageLoader("aupipe.fer_display", "templates")
    return Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@dataclass(frozen=True)
class Picture:
    """A picture inside a page: ``uri`` holds its bytes, ``alt`` says what it shows to those who do not see it."""

    uri: str
    width: int
    height: int
    caption: str
    alt: str


def jpeg_picture(image: UInt8[np.ndarray, "h w 3"], caption: str, alt: str = "") -> Picture:
    """Encode an RGB image as JPEG, a fifth of what PNG takes for photos and overlays.

    ``alt``: what it shows, for those who do not see it; or else the caption.
    """
    return _picture(image, "jpeg", caption, alt, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def png_picture(image: UInt8[np.ndarray, "h w 3"], caption: str, alt: str = "") -> Picture:
    """Encode an RGB image as PNG, without loss.

    ``alt``: what it shows, for those who do not see it; or else the caption.
    """
    return _picture(image, "png", caption, alt, [])


def data_uri(data: bytes, kind: str) -> str:
    """Put an encoded picture into a URI; ``kind``: png or jpeg."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _picture(image: UInt8[np.ndarray, "h w 3"], kind: str, caption: str, alt: str, options: list[int]) -> Picture:
    _, data = cv2.imencode(f".{kind}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return Picture(data_uri(data.tobytes(), kind), image.shape[1], image.shape[0], caption, alt or caption)

"""What the self-contained HTML pages share: their head, their look, and pictures inside the text."""

from __future__ import annotations

import base64
import html

import cv2
import numpy as np
from jaxtyping import UInt8

JPEG_QUALITY = 88


def page_head(title: str, style: str = "") -> str:
    """Everything up to the body: the title, the common look and ``style`` after it."""
    return _HEAD.format(title=html.escape(title), style=_STYLE + style)


def data_uri(data: bytes, kind: str) -> str:
    """An encoded picture inside a URI; ``kind``: png or jpeg."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def jpeg_uri(image: UInt8[np.ndarray, "h w 3"]) -> str:
    """An RGB image as a JPEG inside a URI: photos and overlays take a fifth of what PNG takes."""
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return data_uri(data.tobytes(), "jpeg")


def figure(image: UInt8[np.ndarray, "h w 3"], caption: str, alt: str) -> str:
    """An RGB picture inside the page with its caption; ``alt``: for those who do not see it. Both are escaped."""
    height, width = image.shape[:2]
    return (
        f'<figure><img src="{jpeg_uri(image)}" width="{width}" height="{height}" alt="{html.escape(alt)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --soft: #f2f4f7;
  --line: #d7dce3; --quiet: #5c6672; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ebef; --paper: #14171b; --soft: #1e2328; --line: #363d46; --quiet: #9aa5b1; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; } h2 { font-size: 1.1rem; margin: 0; }
p { max-width: 46rem; } .said { color: var(--quiet); margin: .1rem 0 .6rem; font-size: .9rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th[scope=row] { text-align: left; font-weight: 600; }
tr.control th, tr.control td { color: var(--quiet); font-weight: 400; }
section { background: var(--soft); border: 1px solid var(--line); border-radius: .6rem;
  padding: .9rem 1rem; margin: 1rem 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .8rem; }
figure { margin: 0; } img { display: block; width: 100%; height: auto; border-radius: .4rem; }
figcaption { font-size: .8rem; color: var(--quiet); margin-top: .2rem; }
"""

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>"""

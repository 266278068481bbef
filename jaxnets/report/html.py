"""Pieces of HTML: everything from outside is escaped, every image is a data: URI."""

import base64
import html
import io
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

Size = Literal["", "wide", "huge"]
THUMB = 96  # pixels; larger images are made smaller for the page


def escape(text: object) -> str:
    """Text as HTML shows it; what UTF-8 cannot write becomes a question mark."""
    return html.escape(str(text).encode("utf-8", "replace").decode())


def data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def png_size(png: bytes) -> tuple[int, int]:
    """Width and height in pixels, from a PNG's first chunk."""
    return struct.unpack(">II", png[16:24])


def picture(light: bytes, dark: bytes, alt: str, *, size: Size = "") -> str:
    """A figure on light and on dark paper; a "wide" one scrolls on a phone, a "huge" one always."""
    width, height = png_size(light)
    image = (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{data_uri(dark)}">'
        f'<img src="{data_uri(light)}" alt="{escape(alt)}" width="{width}" height="{height}">'
        "</picture>"
    )
    if not size:
        return f"<figure>{image}</figure>"
    label = escape(alt.partition(":")[0])
    return (
        f'<div class="{size}"><p class="hint">Scroll sideways to see all of it.</p>'
        f'<figure aria-label="{label}" tabindex="0" role="region">{image}</figure></div>'
    )


def thumb(image: np.ndarray, alt: str) -> str:
    """A small image, uint8 (H, W, 3)."""
    from PIL import Image

    small, buffer = Image.fromarray(image), io.BytesIO()
    small.thumbnail((THUMB, THUMB))
    small.save(buffer, "PNG", optimize=True)
    return f'<img class="thumb" src="{data_uri(buffer.getvalue())}" alt="{escape(alt)}">'


def gallery(
    images: Iterable[np.ndarray],
    alts: Iterable[str],
    captions: Iterable[str],
    *,
    small: bool = False,
) -> str:
    """Small images with their captions, HTML each, as many in a row as there is room for."""
    items = zip(images, alts, captions, strict=True)
    cells = (f"<li>{thumb(image, alt)}<span>{text}</span></li>" for image, alt, text in items)
    return f'<ul class="gallery{" small" * small}">{"".join(cells)}</ul>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, wrap: bool = False) -> str:
    """A table that scrolls where it is too wide; its first column names the rows.

    Args:
        wrap: cells are texts, which may take several lines.
    """
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = ""
    for name, *cells in rows:
        shown = "".join(f"<td>{escape(text)}</td>" for text in cells)
        body += f'<tr><th scope="row">{escape(name)}</th>{shown}</tr>'
    kind = ' class="wrap"' if wrap else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="table"><table{kind}>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def tiles(pairs: Mapping[str, str]) -> str:
    """Names and figures, each on a card."""
    cells = (f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in pairs.items())
    return f'<dl class="tiles">{"".join(cells)}</dl>'


def facts(pairs: Mapping[str, str]) -> str:
    """Names and what they are, a line each."""
    rows = (f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in pairs.items())
    return f'<dl class="facts">{"".join(rows)}</dl>'


def details(summary: str, body: str) -> str:
    """Something to unfold; needs no script."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"

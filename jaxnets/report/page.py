"""The report as one HTML page that needs nothing but itself: no script, no request."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template
from typing import NamedTuple

from jaxnets.report import html
from jaxnets.report.figure import DARK, LIGHT, to_png, write
from jaxnets.report.html import escape
from jaxnets.report.run import RunData
from jaxnets.report.sections import Plot, Section

# Even if something were to slip through the escaping, nothing could be fetched or run.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

Picture = Callable[[Plot], tuple[bytes, bytes]]


def drawn(sections: Sequence[Section]) -> Picture:
    """The PNGs of the sections' plots; dark ones of those that the page shows."""
    plots = [plot for section in sections for plot in section.plots]
    pngs = {
        id(plot): (to_png(plot.draw, LIGHT), to_png(plot.draw, DARK) if plot.alt else b"")
        for plot in plots
    }
    return lambda plot: pngs[id(plot)]


def write_section(folder: Path, section: Section, picture: Picture) -> list[Path]:
    """A PNG of each plot, and a JSON where there are data; the paths."""
    written = [write(folder / f"{p.name}.png", picture(p)[0]) for p in section.plots]
    if section.data is not None:
        written.append(write_json(folder / f"{section.key}.json", section.data))
    return written


def write_json(path: Path, data: object) -> Path:
    """Writes JSON beside a page."""
    return write(path, (json.dumps(data, indent=1) + "\n").encode())


def write_page(folder: Path, html: str) -> Path:
    """Writes index.html."""
    return write(folder / "index.html", html.encode("utf-8", "replace"))


class Chapter(NamedTuple):
    """The sections about one run."""

    run: RunData
    sections: Sequence[Section]


def render(overview: Sequence[Section], chapters: Sequence[Chapter], picture: Picture) -> str:
    """The page.

    Args:
        overview: about all runs together, in front of the chapters.
        picture: gives the PNGs of a plot on light and on dark paper.
    """
    runs = [chapter.run for chapter in chapters]
    single = len(runs) == 1
    title = f"Report on {runs[0].name if single else f'{len(runs)} runs'}"
    content = [_head(runs[0], title) if single else _comparison(runs, title)]
    content.append(_contents(overview, chapters))
    content += [section_html(section, picture) for section in overview]
    for i, chapter in enumerate(chapters):
        prefix = "" if single else f"run{i + 1}-"
        if not single:
            content.append(_run_head(chapter.run, f"run{i + 1}"))
        level = 2 if single else 3
        content += [
            section_html(section, picture, prefix=prefix, level=level)
            for section in chapter.sections
        ]
    return document(title, content)


def document(
    title: str, content: Sequence[str], *, policy: str = _POLICY, style: str = "", script: str = ""
) -> str:
    """A whole page of the report's look, of what stands one below the other in it.

    Args:
        policy: what it may load and run.
        style: CSS of its own.
        script: the address of a module that it runs.
    """
    module = f'\n<script type="module" src="{escape(script)}"></script>' if script else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n'
        f"<style>{_style()}{style}</style>{module}\n</head>\n<body>\n"
        + "\n".join(content)
        + "\n</body>\n</html>\n"
    )


def _style() -> str:
    """page.css with the colours of the figures' themes."""
    papers = {"light": LIGHT, "dark": DARK}
    colours = {f"{name}_paper": theme.paper for name, theme in papers.items()}
    colours |= {f"{name}_ink": theme.ink for name, theme in papers.items()}
    colours |= {f"{name}_accent": theme.colours[0] for name, theme in papers.items()}
    return Template((Path(__file__).parent / "page.css").read_text()).substitute(colours)


def section_html(section: Section, picture: Picture, *, prefix: str = "", level: int = 2) -> str:
    """A section of the page: its heading, figures and tables.

    Args:
        prefix: of its anchor.
        level: of its heading.
    """
    figures = "".join(
        html.picture(*picture(plot), plot.alt, size=plot.size) for plot in section.plots if plot.alt
    )
    body = section.body
    if figures:
        body = f'<div class="figures">{figures}<div>{body}</div></div>'
    return (
        f'<section id="{prefix}{section.key}"><h{level}>{escape(section.title)}</h{level}>'
        f'<p class="quiet">{escape(section.about)}</p>'
        f"{body}</section>"
    )


def _contents(overview: Sequence[Section], chapters: Sequence[Chapter]) -> str:
    items = links(overview)
    if len(chapters) == 1:
        items += links(chapters[0].sections)
    else:
        for i, (run, sections) in enumerate(chapters):
            own = f'<a href="#run{i + 1}">{escape(run.name)}</a>'
            items += f'<li class="run">{own}<ul>{links(sections, f"run{i + 1}-")}</ul></li>'
    return navigation(items)


def links(sections: Sequence[Section], prefix: str = "") -> str:
    """Items of the list of contents."""
    return "".join(
        f'<li><a href="#{prefix}{section.key}">{escape(section.title)}</a></li>'
        for section in sections
    )


def navigation(items: str) -> str:
    """The list of contents, of items in HTML."""
    return f'<nav aria-labelledby="contents"><h2 id="contents">Contents</h2><ul>{items}</ul></nav>'


def _head(run: RunData, title: str) -> str:
    return f"<header><h1>{escape(title)}</h1>{_facts(run)}</header>"


def _run_head(run: RunData, anchor: str) -> str:
    return f'<section id="{anchor}"><h2>{escape(run.name)}</h2>{_facts(run)}</section>'


def _facts(run: RunData) -> str:
    tiles = {
        "test accuracy": f"{run.scores['accuracy']:.2%}",
        "top-5": f"{run.scores['top5']:.2%}",
        "test loss": f"{run.loss:.4f}",
        "ECE": f"{run.calibration['ece']:.2%}",
        "epoch": f"{run.epoch} of {run.epochs}",
        "parameters": f"{run.parameters:,}",
    }
    about = (
        f"{run.model} on {len(run.labels):,} test images of {run.source}; checkpoint "
        f"{run.checkpoint} of {run.workdir}: step {run.step:,}, epoch {run.epoch}. "
        f"{selection(run.selected_on)}"
    )
    return f'<p class="quiet">{escape(about)}</p>{html.tiles(tiles)}'


def selection(selected_on: str | None) -> str:
    """Which split chose the checkpoint, and what that means for the numbers."""
    if selected_on is None:
        return "No set chose it."
    if selected_on == "val":
        return "The best checkpoint is chosen on the validation split, not on the test set."
    return (
        "The best checkpoint is chosen on the test set itself, so its test figures are a little "
        "optimistic."
    )


_CHOSEN_ON = {"val": "validation", "test": "test", None: "nothing"}


def _comparison(runs: Sequence[RunData], title: str) -> str:
    rows = [
        {
            "test accuracy": f"{run.scores['accuracy']:.2%}",
            "test loss": f"{run.loss:.4f}",
            "ECE": f"{run.calibration['ece']:.2%}",
            "epoch": f"{run.epoch} of {run.epochs}",
            "parameters": f"{run.parameters:,}",
            "checkpoint": f"{run.checkpoint}, step {run.step:,}",
            "chosen on": _CHOSEN_ON[run.selected_on],
            "model": run.model,
            "data": run.source,
        }
        for run in runs
    ]
    table = html.table(
        ("run", *(run.name for run in runs)),
        [(name, *(row[name] for row in rows)) for name in rows[0]],
        wrap=True,
    )
    return f"<header><h1>{escape(title)}</h1>{table}</header>"

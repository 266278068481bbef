"""The report as one HTML page that needs nothing but itself: no script, no request."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxnets.report import html
from jaxnets.report.css import CSS
from jaxnets.report.html import escape
from jaxnets.report.part import Part, Plot
from jaxnets.report.run import RunData

# Even if something were to slip through the escaping, nothing could be fetched or run.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

Picture = Callable[[Plot], tuple[bytes, bytes]]


class Chapter(NamedTuple):
    """What there is to say about one run."""

    run: RunData
    parts: Sequence[Part]


def render(overview: Sequence[Part], chapters: Sequence[Chapter], picture: Picture) -> str:
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
    content += [_section(part, "", 2, picture) for part in overview]
    for i, chapter in enumerate(chapters):
        prefix = "" if single else f"run{i + 1}-"
        if not single:
            content.append(_run_head(chapter.run, f"run{i + 1}"))
        content += [_section(part, prefix, 2 if single else 3, picture) for part in chapter.parts]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n'
        f"<style>{CSS}</style>\n</head>\n<body>\n" + "\n".join(content) + "\n</body>\n</html>\n"
    )


def _section(part: Part, prefix: str, level: int, picture: Picture) -> str:
    figures = "".join(
        html.picture(*picture(plot), plot.alt, size=plot.size) for plot in part.plots if plot.alt
    )
    return (
        f'<section id="{prefix}{part.key}"><h{level}>{escape(part.title)}</h{level}>'
        f'<p class="quiet">{escape(part.about)}</p>'
        + (f'<div class="figures">{figures}<div>{part.body}</div></div>' if figures else part.body)
        + "</section>"
    )


def _contents(overview: Sequence[Part], chapters: Sequence[Chapter]) -> str:
    def links(parts: Sequence[Part], prefix: str = "") -> str:
        return "".join(
            f'<li><a href="#{prefix}{part.key}">{escape(part.title)}</a></li>' for part in parts
        )

    items = links(overview)
    if len(chapters) == 1:
        items += links(chapters[0].parts)
    else:
        for i, (run, parts) in enumerate(chapters):
            own = f'<a href="#run{i + 1}">{escape(run.name)}</a>'
            items += f'<li class="run">{own}<ul>{links(parts, f"run{i + 1}-")}</ul></li>'
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
    cells = "".join(f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in tiles.items())
    about = (
        f"{run.model} on {len(run.labels):,} test images of {run.source}; checkpoint "
        f"{run.checkpoint} of {run.workdir}: step {run.step:,}, epoch {run.epoch}. {selection(run)}"
    )
    return f'<p class="quiet">{escape(about)}</p><dl class="tiles">{cells}</dl>'


def selection(run: RunData) -> str:
    """Which set chose the checkpoint, if any did, and what that means for the numbers."""
    if run.selected_on is None:
        return "No set chose it."
    if run.selected_on == "val":
        return (
            "The best checkpoint is chosen on the validation split; the test set had no say in it."
        )
    return (
        "The best checkpoint is chosen on the test set itself, so its test figures are a little "
        "too good."
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

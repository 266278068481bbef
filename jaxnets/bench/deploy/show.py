"""The result of `bench --deploy` as a table, and as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxnets.bench.deploy.runtimes import RUNTIMES
from jaxnets.tables import show, table_of

_NAMES = {"onnxruntime": "onnx", "onnxruntime int8": "onnx int8"}
MARKERS = ("o", "s", "D", "^", "v")


def show_rows(machine: dict[str, Any] | None, rows: Sequence[dict[str, Any]]) -> None:
    """A line for each network, runtime and thread count, with all batches."""
    good = [row for row in rows if "ms_an_image" in row]
    _show_machine(machine, good)
    batches = sorted({row["batch"] for row in good})
    heads = [head for batch in batches for head in (f"ms at {batch}>", f"x{batch}>")]
    table = table_of(
        "recipe", "runtime", "threads>", *heads, "file MB>", "peak MB>", fold="recipe",
        drop=[*(f"x{batch}" for batch in batches), "file MB", "peak MB"],
    )  # fmt: skip
    for (config, runtime, threads), by_batch in lines(rows).items():
        cells = []
        for batch in batches:
            row = by_batch.get(batch, {})
            of_jax = lines(rows).get((config, "jax", threads), {}).get(batch, {})
            cells += [_ms(row), _ratio(row, of_jax)]
        first = next(iter(by_batch.values()))
        peak = first["peak_memory_bytes"]
        table.add_row(
            config,
            _NAMES.get(runtime, runtime),
            str(threads),
            *cells,
            f"{first['file_bytes'] / 1e6:,.2f}",
            f"{peak / 1e6:,.0f}" if isinstance(peak, int) else "-",
        )
    show(table)
    print("x: times as long as jax; peak MB: a process that opens the file and answers one image")
    for row in rows:
        for why in (row.get("error"), row.get("peak_memory_bytes")):
            if isinstance(why, str):
                print(f"{row['config']}, {row.get('runtime', 'all')}: not measured: {why}")


def show_fire(machine: dict[str, Any] | None, rows: Sequence[dict[str, Any]]) -> None:
    """A line for each place and runtime: the Fire module and how the plain convolution compares."""
    good = [row for row in rows if "ms_an_image" in row]
    _show_machine(machine, good)
    batches = sorted({row["batch"] for row in good})
    heads = [head for batch in batches for head in (f"fire, ms at {batch}>", f"plain x{batch}>")]
    table = table_of(
        "module", "runtime", "parameters x>", "MACs x>", *heads, "fire, MB>", "plain, MB>",
        fold="module", drop=("plain, MB", "fire, MB", "MACs x", "parameters x"),
    )  # fmt: skip
    found = {(row["config"], row["runtime"], row["batch"], row["kind"]): row for row in good}
    for config, runtime in dict.fromkeys((row["config"], row["runtime"]) for row in good):
        fire, plain = (found[config, runtime, batches[0], kind] for kind in ("fire", "plain"))
        cells = []
        for batch in batches:
            fast, slow = (found[config, runtime, batch, kind] for kind in ("fire", "plain"))
            cells += [f"{fast['ms_an_image']:.3f}", _ratio(slow, fast)]
        table.add_row(
            config,
            runtime,
            *(f"{plain[key] / fire[key]:.1f}" for key in ("parameters", "macs")),
            *cells,
            *(_mb(row.get("peak_memory_bytes")) for row in (fire, plain)),
        )
    show(table)
    print(
        "x: the plain convolution as a multiple of the Fire module; MB: onnxruntime alone, at most"
    )
    for row in rows:
        if "error" in row:
            print(f"{row['config']}: not measured: {row['error']}")


def _mb(size: object) -> str:
    return f"{size / 1e6:,.1f}" if isinstance(size, int) else "-"


def _show_machine(machine: dict[str, Any] | None, good: Sequence[dict[str, Any]]) -> None:
    if machine and good:
        from jaxnets.bench.show import BUSY, machine_line

        print(f"\n{machine_line(machine)}\nmedian of n={good[0]['n']}, measured in turn\n")
        if machine["load"][0] > BUSY * machine["cores"]:
            print(f"the machine is busy (load {machine['load'][0]:.1f}): compare within a network")


def lines(
    rows: Sequence[dict[str, Any]],
) -> dict[tuple[str, str, int], dict[int, dict[str, Any]]]:
    """The rows by recipe, runtime and threads, and then by batch; without networks of none."""
    found: dict[tuple[str, str, int], dict[int, dict[str, Any]]] = {}
    for row in rows:
        if "runtime" in row:
            place = (row["config"], row["runtime"], row["threads"])
            found.setdefault(place, {})[row["batch"]] = row
    return found


def _ms(row: dict[str, Any]) -> str:
    return f"{row['ms_an_image']:.2f}" if "ms_an_image" in row else "-"


def _ratio(row: dict[str, Any], of_jax: dict[str, Any]) -> str:
    if "ms_an_image" not in row or "ms_an_image" not in of_jax:
        return "-"
    return f"{row['ms_an_image'] / of_jax['ms_an_image']:.2f}"


def pictures(path: Path) -> tuple[Path, Path]:
    """Where the pictures lie: on light paper and on dark."""
    return path, path.with_name(f"{path.stem}_dark{path.suffix}")


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Writes the picture twice: parameters against latency, one image at a time on all threads.

    Raises:
        UserError: it cannot be written.
    """
    from jaxnets.report.figure import DARK, LIGHT, to_png, write

    for where, theme in zip(pictures(path), (LIGHT, DARK), strict=True):
        write(where, to_png(lambda theme: figure(rows, theme), theme))


def figure(rows: Sequence[dict[str, Any]], theme: Any) -> Any:
    """The matplotlib figure: a point for each network and runtime."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    good = [row for row in rows if "ms_an_image" in row]
    threads = max((row["threads"] for row in good), default=1)
    batch = min((row["batch"] for row in good), default=1)
    here = [row for row in good if (row["threads"], row["batch"]) == (threads, batch)]
    made = Figure(figsize=(8.0, 5.0), layout="constrained")
    axes = made.subplots()
    for runtime, colour, marker in zip(RUNTIMES, theme.colours, MARKERS, strict=False):
        points = [row for row in here if row["runtime"] == runtime]
        axes.plot(
            [row["parameters"] for row in points],
            [row["ms_an_image"] for row in points],
            linestyle="",
            marker=marker,
            color=colour,
            label=runtime,
        )
    highest = {}
    for row in here:
        place = (row["config"], row["parameters"])
        highest[place] = max(highest.get(place, 0), row["ms_an_image"])
    for (config, parameters), top in highest.items():
        axes.annotate(
            _short(config),
            (parameters, top),
            xytext=(0, 7),
            textcoords="offset points",
            rotation=35,
            fontsize=8,
            color=theme.ink,
        )
    axes.set(xscale="log", yscale="log", xlabel="parameters", ylabel="ms an image")
    axes.set_title(f"batch {batch}, {threads} thread{'s' * (threads > 1)}")
    axes.margins(x=0.15, y=0.25)
    axes.xaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1e6:g} M"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    made.legend(loc="outside lower center", ncols=len(RUNTIMES))
    return made


def _short(config: str) -> str:
    """A recipe as a label: configs/cifar100.py:v3 is cifar100:v3.

    >>> _short("configs/cifar100.py:v3")
    'cifar100:v3'
    """
    from jaxnets.report.figure import label

    return label(config.rpartition("/")[2].replace(".py", ""))

"""The result on a terminal."""

from typing import Any

from jaxnets.bench.case import Budget
from jaxnets.tables import show, table_of

# The load of the last minute, for each core, from which on figures are unreliable.
BUSY = 0.5


def show_result(machine: dict[str, Any] | None, rows: list[dict[str, Any]], budget: Budget) -> None:
    """Machine and rows."""
    measured = [row for row in rows if "error" not in row]
    if not measured:
        return
    print(f"\n{machine_line(machine)}\nmedian of n={budget.repeats}, +- the quartiles' distance\n")
    if machine["platform"] == "cpu" and machine["load"][0] > BUSY * machine["cores"]:
        load = machine["load"][0]
        print(f"the machine is busy (load {load:.1f}): figures are unreliable\n")
    table = table_of(
        "recipe", "batch>", "dtype", "train/s>", "+->", "eval/s>", "ms an image>", "compile s>",
        "1st step s>", "peak MB>", "of product>", fold="recipe",
        drop=("1st step s", "compile s", "of product", "+-", "ms an image", "peak MB", "eval/s",
              "dtype", "batch"),
    )  # fmt: skip
    for row in measured:
        table.add_row(
            row["config"],
            str(row["batch"]),
            row["dtype"],
            f"{row['train_images_per_second']:,.1f}",
            f"{row['train_spread']:,.1f}",
            f"{row['eval_images_per_second']:,.1f}",
            f"{row['latency_ms']:.2f}",
            f"{row['compile_seconds']:.1f}",
            f"{row['first_step_seconds']:.2f}",
            f"{row['peak_memory_bytes'] / 1e6:,.0f}",
            f"{row['share_of_product']:.1%}",
        )
    show(table)
    if "speedup" in measured[0]:
        _show_against(measured)
    print(f"peak MB: {measured[0]['peak_memory_is']}")
    if "resident_bytes" in measured[0]:
        _show_resident(measured)


def _show_resident(rows: list[dict[str, Any]]) -> None:
    table = table_of(
        "a training holds", "batch>", "dtype", "MB>", "torch MB>", "ratio>",
        fold="a training holds", drop=("ratio", "dtype", "batch"),
    )  # fmt: skip
    for row in rows:
        ours, theirs = row["resident_bytes"], row.get("torch_resident_bytes")
        cells = [f"{x / 1e6:,.0f}" if isinstance(x, int) else "" for x in (ours, theirs)]
        ratio = f"{ours / theirs:.2f}" if all(cells) else ""
        table.add_row(row["config"], str(row["batch"]), row["dtype"], *cells, ratio)
    print()
    show(table)


def _show_against(rows: list[dict[str, Any]]) -> None:
    table = table_of(
        "against torch", "batch>", "dtype", "eager/s>", "+->", "best/s>", "best", "speedup>",
        "quartiles", "eval x>", "latency x>", fold="against torch",
        drop=("+-", "best", "latency x", "eval x", "eager/s", "best/s", "quartiles", "dtype",
              "batch"),
    )  # fmt: skip
    for row in rows:
        low, high = row["speedup_quartiles"]
        table.add_row(
            row["config"],
            str(row["batch"]),
            row["dtype"],
            f"{row['torch_eager_images_per_second']:,.1f}",
            f"{row['torch_eager_spread']:,.1f}",
            f"{row['torch_best_images_per_second']:,.1f}",
            row["torch_best"],
            f"{row['speedup']:.2f}",
            f"{low:.2f} to {high:.2f}",
            f"{row['eval_speedup']:.2f}",
            f"{row['latency_speedup']:.2f}",
        )
    print()
    show(table)
    for row in rows:
        for variant, note in row["torch_notes"].items():
            print(f"{row['config']}, batch {row['batch']}, torch {variant}: {note}")


def machine_line(machine: dict[str, Any]) -> str:
    """Device and versions, and the settings in force."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    flag = "in force" if machine["cpu_flag"]["in_force"] else "not in force"
    memory = "kept" if machine["memory_kept"] else "given back"
    line = f"{machine['device']} ({machine['platform']}), {machine['cores']} cores; {versions}"
    if machine["platform"] == "cpu":
        return f"{line}; CPU flag {flag}; freed memory {memory}"
    return f"{line}; TF32 {'allowed' if machine['tf32'] else 'not allowed'} on both sides"

"""How runs were trained, and in what they differ."""

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxnets.report import html
from jaxnets.report.sections import Section

if TYPE_CHECKING:
    from jaxnets.report.run import RunData


def section(run: "RunData") -> Section:
    """How a run was trained: recipe, overrides, rate, batch, seed, date, versions, command."""
    facts = describe(run.config, run.start)
    about = "How the network was trained: its configuration and its first start."
    data = {"config": run.config, "start": run.start}
    return Section("training", "Training", about, (), data, html.facts(facts))


def differences(runs: Sequence["RunData"]) -> Section:
    """What of configuration, hardware and versions is not the same in all runs."""
    flat = [run.config | _surroundings(run.start) for run in runs]
    keys = sorted({key for values in flat for key in values})
    rows = [
        [key, *(as_text(values.get(key)) for values in flat)]
        for key in keys
        if any(values.get(key) != flat[0].get(key) for values in flat)
    ]
    body = html.table(("key", *(run.name for run in runs)), rows, wrap=True)
    about = "The keys of the configuration that differ between the runs, and where they ran."
    if not rows:
        about, body = "Configuration, hardware and versions of the runs are the same.", ""
    data = {run.name: values for run, values in zip(runs, flat, strict=True)}
    return Section("differences", "What differs", about, (), data, body)


def describe(config: Mapping[str, Any], start: Mapping[str, Any]) -> dict[str, str]:
    """The facts of a run by their names, for people.

    Args:
        config: flat, as `jaxnets.config.flatten` makes it.
        start: as `jaxnets.runs.log` records it; older runs lack some of it.
    """
    recipe, overrides = read_command(start.get("command", ""))
    optimizer = f"{config['optim.name']}, learning rate {config['optim.lr']:g}"
    if config["optim.name"] == "sgd":
        optimizer += f", momentum {config['optim.momentum']:g}"
    if config["optim.name"] == "muon":
        optimizer += f", momentum {config['optim.muon.momentum']:g}"
        optimizer += f", the rest {config['optim.muon.rest']}"
        optimizer += f" at {config['optim.muon.rest_lr_scale']:g} times the rate"
    optimizer += f", weight decay {as_text(config['optim.weight_decay'])}"
    if config["optim.lookahead.enabled"]:
        optimizer += f", Lookahead of {config['optim.lookahead.k']} steps"
    if config["optim.ema.decay"] is not None:
        optimizer += f", exponential average of decay {config['optim.ema.decay']:g}"
    if config["optim.swa.from_epoch"] is not None:
        optimizer += f", average of weights from epoch {config['optim.swa.from_epoch']}"
    rate = f"{config['schedule.name'].replace('_', ' ')}, per {config['schedule.per']}"
    if config["schedule.name"] == "one_cycle":
        rate += f", up to {config['schedule.max_lr']:g}"
    facts = {
        "recipe": recipe or config["name"],
        "overrides": " ".join(overrides) or ("none" if recipe else "unknown"),
        "optimizer": optimizer,
        "schedule": rate,
        "batch size": str(config["batch_size"]),
        "epochs planned": str(config["num_epochs"]),
        "seed": str(config["seed"]),
        "computed in": config["dtype"],
        "started": start.get("date"),
        "hardware": start.get("hardware"),
        "versions": as_text(start.get("versions")),
        "command": start.get("command"),
    }
    return {name: value or "unknown" for name, value in facts.items()}


def read_command(command: str) -> tuple[str | None, list[str]]:
    """Recipe and overrides of a command of training; None and none where it has no recipe.

    >>> read_command("python -m jaxnets.train --config configs/x.py:a --config.seed=1 --workdir w")
    ('configs/x.py:a', ['seed=1'])
    """
    words = iter(shlex.split(command))
    recipe, overrides = None, []
    for word in words:
        name, equals, value = word.lstrip("-").partition("=")
        if name != "config" and not name.startswith("config."):
            continue
        value = value if equals else next(words, "")
        if name == "config":
            recipe = value
        else:
            overrides.append(f"{name.removeprefix('config.')}={value}")
    return recipe, overrides


def as_text(value: Any) -> str:
    """A value of a configuration, or a dictionary of versions, on one line.

    >>> as_text([0.1, 2]), as_text({"jax": "1"}), as_text(None)
    ('0.1, 2', 'jax 1', 'unset')
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "unset" if value is None else str(value)


def _surroundings(start: Mapping[str, Any]) -> dict[str, str]:
    """Hardware and versions of a start under keys of their own."""
    versions = {f"version of {name}": text for name, text in start.get("versions", {}).items()}
    hardware = {"hardware": start["hardware"]} if "hardware" in start else {}
    return hardware | versions

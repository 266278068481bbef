"""All models, or one: its layers, parameters, multiply-accumulates."""

import argparse
import dataclasses
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from jaxnets import cli
from jaxnets.config import networks
from jaxnets.config.networks import MODELS, parse_options
from jaxnets.errors import UserError
from jaxnets.pretrained import index
from jaxnets.tables import show, table_of

if TYPE_CHECKING:
    from jaxnets.models.audit import Audit

DOCUMENTS = {
    "S0": "CIFAR-100 hybrids",
    "S1": "Mish-SE-ResNet18",
    "S2": "SE-ResNet, 300 epochs",
    "S3": "Basic and Dense SE-ResNet",
}

EPILOG = """\
examples:
  python -m jaxnets.models --list
  python -m jaxnets.models --pretrained
  python -m jaxnets.models se_resnet
  python -m jaxnets.models se_resnet --option se=block --option num_blocks=3,3,3
  python -m jaxnets.models se_resnet --option num_channels=16 --budget 300000 --json

Multiply-accumulates (MACs) are those of convolutions and linear layers for one 32x32x3 image.
Exit codes: 0 fine, 1 over the budget, 2 a mistake in the command."""


def main(argv: Sequence[str]) -> int:
    """Prints the list of models, or the audit of one; 1 when it is over its budget."""
    args = _parser().parse_args(argv)
    about_one = args.option or args.num_classes is not None or args.budget is not None
    if args.pretrained:
        if args.list or about_one:
            raise UserError("--pretrained: a list of its own, of all models or of the one named")
        _list_pretrained(args.model, args.json)
        return 0
    if args.list and (args.model or about_one):
        raise UserError("--list: all models, so no name, --option, --num-classes or --budget")
    if args.list:
        _list(args.json)
        return 0
    if args.model is None:
        raise UserError("no model: name one, or --list them all")
    options = parse_options(args.model, args.option)

    from jaxnets.models.audit import BUDGET, audit

    result = audit(args.model, args.num_classes, **options)
    budget = BUDGET if args.budget is None else args.budget
    if args.json:
        cli.print_json(args.json, _as_dict(args, options, result, budget))
    else:
        _show(result, budget)
    return 0 if result.parameters <= budget else 1


def _parser() -> cli.Parser:
    parser = cli.Parser("jaxnets.models", __doc__, epilog=EPILOG)
    parser.add_argument("model", nargs="?", help=f"one of {', '.join(MODELS)}")
    parser.add_argument("--list", action="store_true", help="all models, a line each")
    parser.add_argument(
        "--num-classes", type=cli.whole(1), metavar="N", help="logits (default: documented)"
    )
    parser.add_argument(
        "--option", action="append", default=[], metavar="K=V", help="an option of the model"
    )
    parser.add_argument(
        "--budget",
        type=cli.whole(0, sys.maxsize),
        metavar="N",
        help="unique trainable parameters allowed, else exit code 1 (default: 5,000,000)",
    )
    parser.add_argument(
        "--pretrained",
        action="store_true",
        help="list the weights that come with the project, of all models or of one",
    )
    cli.add_json(parser, "and nothing else")
    return parser


def _list(as_json: str | None) -> None:
    from jaxnets.models.audit import audit

    rows = []
    for name in MODELS:
        result = audit(name)
        rows.append(
            {
                "name": name,
                "parameters": result.parameters,
                "trainable": result.parameters,
                "macs": result.macs,
                "entries": result.entries,
                "source": re.sub(
                    r"S\d", lambda m: f"{m[0]} ({DOCUMENTS[m[0]]})", MODELS[name].source
                ),
            }
        )
    if as_json:
        cli.print_json(as_json, rows)
        return
    table = table_of(
        "name",
        "parameters>",
        "trainable>",
        "MACs>",
        "entries>",
        "source",
        fold="source",
        drop=("trainable", "entries", "MACs", "source"),
    )
    for row in rows:
        numbers = f"{row['parameters']:,}", f"{row['trainable']:,}", millions(row["macs"])
        table.add_row(row["name"], *numbers, str(row["entries"]), escape(row["source"]))
    show(table)
    print("MACs of one 32x32x3 image; entries: tensors in the state_dict.")
    print("The layers of one: python -m jaxnets.models NAME")


def _list_pretrained(model: str | None, as_json: str | None) -> None:
    if model is not None:
        networks.entry(model)
    entries = [entry for entry in index.read().values() if model in (None, entry.model)]
    if as_json:
        cli.print_json(as_json, [dataclasses.asdict(entry) for entry in entries])
        return
    table = table_of(
        "name", "model", "parameters>", "data", "test accuracy>", "epoch", "MB>",
        fold="name", drop=("MB", "parameters", "data", "model"),
    )  # fmt: skip
    for entry in entries:
        record = entry.record
        epoch = f"{record['epoch']} of {record['epochs']}" + ", cut" * (not record["finished"])
        table.add_row(
            entry.name,
            entry.model,
            f"{record['parameters']:,}",
            record["data"],
            f"{record['test']['accuracy']:.2%}",
            epoch,
            f"{entry.size / 1e6:.1f}",
        )
    show(table)
    print("Classify images: python -m jaxnets.predict --weights NAME --input photo.png")


def _show(result: "Audit", budget: int) -> None:
    columns = ("layer", "type", "weight", "output", "params>", "MACs>")
    table = table_of(*columns, fold="layer", drop=("type", "output", "weight", "MACs"))
    for layer in result.layers:
        table.add_row(
            f"{layer.name} = {layer.shared_with}" if layer.shared_with else layer.name,
            layer.type,
            _shape(layer.weight),
            _shape(layer.output) if layer.output else "never called",
            f"{layer.parameters:,}",
            f"{layer.macs:,}" if layer.macs else "",
        )
    show(table)
    shared = sum(layer.shared_with is not None for layer in result.layers)
    note = f", {shared} of them (=) on the kernel of another, counted there" if shared else ""
    print(f"layers       {len(result.layers)} with parameters{note}")
    print(f"parameters   {result.parameters:,} unique, all trainable")
    print(f"MACs         {result.macs:,} ({millions(result.macs)}) for one 32x32x3 image")
    print(f"state_dict   {result.entries} entries")
    print(f"size         {result.size_mb:.2f} MB in float32 (1 MB = 10^6 bytes)")
    left = budget - result.parameters
    verdict = f"{left:,} left" if left >= 0 else f"EXCEEDED by {-left:,}"
    print(f"budget       {budget:,} parameters, {verdict}")


def _as_dict(args: argparse.Namespace, options: dict, result: "Audit", budget: int) -> dict:
    return {
        "name": args.model,
        "num_classes": args.num_classes or result.layers[-1].weight[-1],
        "options": {k: o.default for k, o in networks.options(args.model).items()} | options,
        "parameters": result.parameters,
        "trainable": result.parameters,
        "macs": result.macs,
        "entries": result.entries,
        "size_mb": round(result.size_mb, 6),
        "budget": budget,
        "within_budget": result.parameters <= budget,
        "layers": [layer._asdict() for layer in result.layers],
    }


def millions(macs: int) -> str:
    """Multiply-accumulates as people read them, such as "1,298.65 M"."""
    return f"{macs / 1e6:,.2f} M"


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


if __name__ == "__main__":
    cli.run(main)

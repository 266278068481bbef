"""python -m jaxnets.models: all models, or one: its layers, parameters, multiply-accumulates."""

import argparse
import ast
import json
import re
import sys
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jaxnets import cli
from jaxnets.errors import UserError, unknown
from jaxnets.models.audit import BUDGET, Audit, audit
from jaxnets.models.registry import MODELS, list_models, model_options

DOCUMENTS = {
    "S0": "CIFAR-100 hybrids",
    "S1": "Mish-SE-ResNet18",
    "S2": "SE-ResNet, 300 epochs",
    "S3": "Basic and Dense SE-ResNet",
}

EPILOG = """\
examples:
  python -m jaxnets.models
  python -m jaxnets.models se_resnet
  python -m jaxnets.models se_resnet --option se=block --option num_blocks=3,3,3
  python -m jaxnets.models se_resnet --option num_channels=16 --budget 300000 --json

Multiply-accumulates (MACs) are those of convolutions and linear layers for one 32x32x3 image.
Exit codes: 0 fine, 1 over the budget, 2 a mistake in the command."""


def main(argv: Sequence[str]) -> int:
    """Prints the list of models, or the audit of one; 1 when it is over its budget."""
    args = _parser().parse_args(argv)
    if args.model is None:
        if args.option or args.num_classes is not None:
            raise UserError("--option and --num-classes are about one model: name it first")
        _list(args.json)
        return 0
    options = _options(args.model, args.option)
    result = audit(args.model, args.num_classes, **options)
    within = result.parameters <= args.budget
    if args.json:
        print(json.dumps(_as_dict(args, options, result, within), indent=2))
    else:
        _show(args, result, within)
    return 0 if within else 1


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="jaxnets.models", description=__doc__, epilog=EPILOG)
    parser.add_argument(
        "model", nargs="?", help=f"one of {', '.join(list_models())}; all if left out"
    )
    parser.add_argument("--num-classes", type=int, metavar="N", help="logits (default: documented)")
    parser.add_argument(
        "--option", action="append", default=[], metavar="K=V", help="an option of the model"
    )
    parser.add_argument(
        "--budget",
        type=_count,
        default=BUDGET,
        metavar="N",
        help="unique trainable parameters allowed, else exit code 1 (default: 5,000,000)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _options(model: str, pairs: Sequence[str]) -> dict[str, object]:
    """The model's options from their K=V text, each of the type of its default."""
    if model not in MODELS:
        raise unknown("model", model, MODELS)
    defaults = model_options(model)
    options = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UserError(f"--option {pair}: write it as K=V, for example {_example(defaults)}")
        if key not in defaults:
            raise unknown(f"option of {model}", key, defaults)
        options[key] = _value(key, text, defaults[key])
    return options


def _value(key: str, text: str, default: object) -> object:
    if isinstance(default, str):
        return text
    try:
        value = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except (ValueError, SyntaxError):
        value = text
    if isinstance(default, tuple):
        value = tuple(value) if isinstance(value, list | tuple) else (value,)
        fits = all(type(v) is type(default[0]) for v in value)
    elif isinstance(default, float):
        fits = type(value) in (int, float)
    else:
        fits = default is None or type(value) is type(default)
    if not fits:
        raise UserError(f"--option {key}={text}: not of the kind of its default, {_text(default)}")
    return value


def _example(defaults: dict[str, object]) -> str:
    return next((f"{k}={_text(v)}" for k, v in defaults.items()), "(this model has no options)")


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _list(as_json: bool) -> None:
    rows = []
    for name in list_models():
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
        print(json.dumps(rows, indent=2))
        return
    table = _table(
        "name", "parameters>", "trainable>", "MACs>", "entries>", "source", fold="source"
    )
    for row in rows:
        numbers = f"{row['parameters']:,}", f"{row['trainable']:,}", _millions(row["macs"])
        table.add_row(row["name"], *numbers, str(row["entries"]), escape(row["source"]))
    _print(table)
    print("MACs of one 32x32x3 image; entries: tensors in the state_dict.")
    print("The layers of one: python -m jaxnets.models NAME")


def _show(args: argparse.Namespace, result: Audit, within: bool) -> None:
    table = _table("layer", "type", "weight", "output", "params>", "MACs>", fold="layer")
    for layer in result.layers:
        table.add_row(
            f"{layer.name} = {layer.shared_with}" if layer.shared_with else layer.name,
            layer.type,
            _shape(layer.weight),
            _shape(layer.output) if layer.output else "never called",
            f"{layer.parameters:,}",
            f"{layer.macs:,}" if layer.macs else "",
        )
    _print(table)
    shared = sum(layer.shared_with is not None for layer in result.layers)
    note = f", {shared} of them (=) on the kernel of another, counted there" if shared else ""
    print(f"layers       {len(result.layers)} with parameters{note}")
    print(f"parameters   {result.parameters:,} unique, all trainable")
    print(f"MACs         {result.macs:,} ({_millions(result.macs)}) for one 32x32x3 image")
    print(f"state_dict   {result.entries} entries")
    print(f"size         {result.size_mb:.2f} MB in float32 (1 MB = 10^6 bytes)")
    left = args.budget - result.parameters
    verdict = f"{left:,} left" if within else f"EXCEEDED by {-left:,}"
    print(f"budget       {args.budget:,} parameters, {verdict}")


def _as_dict(args: argparse.Namespace, options: dict, result: Audit, within: bool) -> dict:
    return {
        "name": args.model,
        "num_classes": args.num_classes or result.layers[-1].weight[-1],
        "options": model_options(args.model) | options,
        "parameters": result.parameters,
        "trainable": result.parameters,
        "macs": result.macs,
        "entries": result.entries,
        "size_mb": round(result.size_mb, 6),
        "budget": args.budget,
        "within_budget": within,
        "layers": [layer._asdict() for layer in result.layers],
    }


def _table(*columns: str, fold: str) -> Table:
    """A table; a heading that ends in > stands over numbers, set to the right.

    On a narrow terminal the column `fold` goes on in further lines; nothing is ever cut off.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for heading in columns:
        name = heading.removesuffix(">")
        side = "right" if name != heading else "left"
        table.add_column(name, justify=side, no_wrap=name != fold, overflow="fold")
    return table


def _print(table: Table) -> None:
    # What reads a pipe has no width: one line a row, however long.
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _millions(macs: int) -> str:
    return f"{macs / 1e6:,.1f} M"


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


if __name__ == "__main__":
    cli.run(main)

"""Exports a trained network to one file that runs without jaxnets, and proves that it answers so.

    python -m jaxnets.export --workdir runs/x --output net.onnx
    python -m jaxnets.export --weights se_resnet_small --output net.pt2
    python -m jaxnets.export --weights net.pth --model resnet18 --config resnet18 --output net.pt2
    python -m jaxnets.export --workdir runs/x --output net.int8.onnx --int8
    python -m jaxnets.export --verify net.onnx --workdir runs/x
    python -m jaxnets.export --workdir runs/x --page site --runtime onnxruntime-web-1.30.0.tgz

.onnx is for onnxruntime, .stablehlo for jax.export, .pt2 for torch.export.  A file takes `images`,
uint8 (N, 32, 32, 3), and gives `logits` and `probabilities`, float32 (N, K); it holds what it was
made from: model, options, class names, normalisation, accuracy, versions.  With --input
float32-nchw it takes normalised images (N, 3, 32, 32).

Before it gets its name it answers 500 test images in its own runtime as JAX does: logits within
1e-4 of the largest, all predictions the same but for ties within that.  Random images serve where
there is no data; none is downloaded.  --verify does so again; without the network it compares with
the few answers of JAX that the file keeps.  A .pt2 or .stablehlo is a program: --verify only those
that you would run.

--int8 writes an .onnx that computes in 8 bits, a quarter of the size.  It is calibrated on training
images; what is compared is its accuracy on the validation split, or on the test set where the
recipe takes none.  Layers that lose too much stay in float, chosen on training images.

--page writes a folder for any web server: a page that classifies images in the browser by the
.onnx, which is proved as above.  It needs the package onnxruntime-web of npm, at --runtime or in
~/.cache/jaxnets; only the one version that is known here is taken.

Exit codes: 0 written or verified, 1 the answers differ, or int8 is worse than --max-drop allows
(nothing is written), 2 a mistake.
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxnets import cli
from jaxnets.errors import UserError, renamed
from jaxnets.files.atomic import check_file

if TYPE_CHECKING:
    from jaxnets.export.files import Opened
    from jaxnets.export.images import Images, Int8Images
    from jaxnets.export.int8 import Exported
    from jaxnets.export.source import Source

_CALIBRATION, _MAX_DROP = 512, 0.5


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    args = _parser().parse_args(argv)
    _check_arguments(args)
    config = cli.recipe(args) if args.config else None
    if args.print_config:
        return 0

    from jaxnets.devices import runtime
    from jaxnets.runs.workdir import read_config

    runtime.setup(read_config(args.workdir).dtype if args.workdir else "float32")

    from jaxnets.export.write import Refused

    work = _verify if args.verify else _page if args.page else _export
    try:
        return work(args, config)
    except Refused as e:
        print(f"refused: {e}", file=sys.stderr)
        return 1


def _export(args: argparse.Namespace, config: object) -> int:
    from jaxnets.export.files import FORMATS, format_of, require
    from jaxnets.export.write import export

    form = format_of(args.output, args.format, "--output")
    if args.int8 and form != "onnx":
        raise UserError(f"--int8: is about .onnx, and --output {args.output} is another format")
    require((*FORMATS[form].writes, *FORMATS[form].runs), f"--output {args.output}")
    source = _source(args, config)
    if args.int8:
        return _export_int8(args, source)
    images = _images(args, source)
    print(f"model    {source.model}")
    done = export(source, args.output, form, images, kind=args.input)
    _say_written(args, source, done.size)
    _say_verified(done.comparison, images.what)
    return 0


def _export_int8(args: argparse.Namespace, source: "Source") -> int:
    images = _labelled(args, source)
    print(f"model    {source.model}")
    done = _write_int8(args, source, images, args.output)
    _say_written(args, source, done.size)
    print(f"verified {done.judged}")
    ms = {name: 1e3 / rates.median for name, rates in done.latency.items()}
    print(
        f"float32  {done.float_size / 1e6:,.2f} MB, {ms['float32']:.2f} ms an image here; "
        f"int8 {done.size / 1e6:,.2f} MB, {ms['int8']:.2f} ms"
    )
    return 0


def _write_int8(
    args: argparse.Namespace, source: "Source", images: "Int8Images", path: Path
) -> "Exported":
    from jaxnets.export.int8 import export_int8

    print(f"int8     calibrated on {len(images.calibration)} {images.what}", flush=True)
    return export_int8(
        source,
        path,
        images,
        kind=args.input,
        max_drop=args.max_drop,
        log=lambda line: print(f"int8     {line}", flush=True),
    )


def _say_written(args: argparse.Namespace, source: "Source", size: int) -> None:
    shape = {"uint8-nhwc": "{0}, {0}, 3", "float32-nchw": "3, {0}, {0}"}[args.input]
    print(
        f"wrote    {args.output}: {size / 1e6:,.2f} MB; images {args.input.split('-')[0]} "
        f"(N, {shape.format(source.image_size)}) to logits and probabilities (N, "
        f"{source.model.num_classes})"
    )


def _page(args: argparse.Namespace, config: object) -> int:
    from jaxnets.export.files import FORMATS, require
    from jaxnets.export.page.runtime import read_runtime
    from jaxnets.export.page.write import write_page
    from jaxnets.export.write import export

    require((*FORMATS["onnx"].writes, *FORMATS["onnx"].runs), f"--page {args.page}")
    runtime = read_runtime(args.runtime)
    source = _source(args, config)
    images = _images(args, source)
    labelled = _labelled(args, source) if args.int8 else None
    print(f"model    {source.model}")
    exports = {"float32": lambda path: export(source, path, "onnx", images)}
    if labelled is not None:
        exports["int8"] = lambda path: _write_int8(args, source, labelled, path)
    done = write_page(args.page, exports, source.config, runtime)
    size = sum(path.stat().st_size for path in args.page.rglob("*") if path.is_file())
    print(
        f"wrote    {args.page}: {size / 1e6:,.1f} MB, to be served as it is: "
        f"python -m http.server --directory {args.page}"
    )
    _say_verified(done["float32"].comparison, images.what)
    if labelled is not None:
        print(f"verified {done['int8'].judged}")
    return 0


def _verify(args: argparse.Namespace, config: object) -> int:
    from jaxnets.export.files import format_of, open_export
    from jaxnets.export.write import Refused, verify, verify_alone

    opened = open_export(args.verify, format_of(args.verify, args.format, "--verify"))
    print(f"{args.verify}: {_headline(opened)}")
    if args.workdir is None and args.weights is None:
        comparison, what = verify_alone(opened), "the images whose answers it keeps"
    else:
        step = opened.about["origin"].get("step")
        if args.checkpoint is None and isinstance(step, int):
            args.checkpoint = str(step)
        source = _source(args, config)
        if "int8" in opened.about:
            return _verify_int8(args, opened, source)
        images = _images(args, source)
        comparison, what = verify(opened, source, images), images.what
    if not comparison.holds:
        raise Refused(f"{args.verify}: its answers are not those of JAX: {comparison}; on {what}")
    _say_verified(comparison, what)
    return 0


def _verify_int8(args: argparse.Namespace, opened: "Opened", source: "Source") -> int:
    from jaxnets.export.images import judged_images
    from jaxnets.export.int8 import judge
    from jaxnets.export.write import Refused, check_weights

    check_weights(opened, source)
    with _data_flags():
        images = judged_images(source.config, source.class_names)
    judged = judge(opened, source, images, opened.about["int8"]["max_drop"])
    if not judged.holds:
        raise Refused(f"{args.verify}: its answers are too far from those of JAX: {judged}")
    print(f"verified {judged}")
    return 0


def _source(args: argparse.Namespace, config: object) -> "Source":
    """The network."""
    from jaxnets.config.networks import parse_options
    from jaxnets.export.source import from_weights, from_workdir
    from jaxnets.port.guess import Model

    if args.workdir:
        source = from_workdir(args.workdir, args.checkpoint or "best")
    else:
        model = None
        if args.model is not None:
            model = Model(args.model, None, parse_options(args.model, args.option))
        source = from_weights(args.weights, model, config)
    if args.data_dir is not None:
        source.config.data.dir = args.data_dir
    for note in source.notes:
        print(f"note: {note}", file=sys.stderr)
    return source


def _images(args: argparse.Namespace, source: "Source") -> "Images":
    """What to compare on: random images only where nobody asked for others."""
    from jaxnets.export.images import images_at_hand, real_images

    with _data_flags():
        if args.data_dir is not None:
            return real_images(source.config)
        images, note = images_at_hand(source.config)
    if note:
        print(f"note: {note}", file=sys.stderr)
    return images


def _labelled(args: argparse.Namespace, source: "Source") -> "Int8Images":
    from jaxnets.export.images import int8_images

    with _data_flags():
        try:
            return int8_images(source.config, source.class_names, args.calibration)
        except UserError as e:
            raise UserError(f"--int8: needs training images: {e}", e.details) from e


def _data_flags() -> contextlib.AbstractContextManager[None]:
    return renamed({"config.data.dir": "--data-dir"})


def _headline(opened: "Opened") -> str:
    about = opened.about
    made = about.get("versions")
    version = made.get("jaxnets") if isinstance(made, dict) else None
    return f"{about.get('model')}, {about.get('parameters')} parameters, by jaxnets {version}"


def _say_verified(comparison: object, what: str) -> None:
    print(f"verified {comparison}; {what}")


def _check_arguments(args: argparse.Namespace) -> None:
    """Before anything is imported that takes time."""
    if sum(x is not None for x in (args.output, args.verify, args.page)) != 1:
        raise UserError(
            "give --output FILE to write one, --verify FILE to check one, or --page FOLDER"
        )
    if args.workdir and args.weights:
        raise UserError("--workdir and --weights: the network is in one of them")
    if not (args.workdir or args.weights or args.verify):
        raise UserError("no network: give --workdir RUN, or --weights NAME|FILE")
    if args.model is None and args.option:
        raise UserError("--option: is about one model: name it with --model")
    if not args.weights and (args.model or args.config or args.overrides):
        raise UserError("--model and --config are about --weights; a run has its own")
    if args.overrides and not args.config:
        raise UserError(f"{args.overrides[0]}: overrides a recipe: name it with --config")
    if args.checkpoint and not args.workdir:
        raise UserError("--checkpoint: is about --workdir")
    if not args.int8 and (args.calibration, args.max_drop) != (None, None):
        raise UserError("--calibration and --max-drop are about --int8")
    if args.int8 and args.verify:
        raise UserError("--int8: is about --output and --page; --verify sees what a file is")
    args.calibration = _CALIBRATION if args.calibration is None else args.calibration
    args.max_drop = _MAX_DROP if args.max_drop is None else args.max_drop
    if args.page is None and args.runtime:
        raise UserError("--runtime: is about --page")
    if args.page is not None:
        if args.format not in (None, "onnx") or args.input != "uint8-nhwc":
            raise UserError(
                "--page: runs an .onnx of images as they are; leave out --format, --input"
            )
        from jaxnets.export.page.folder import check_folder

        check_folder(args.page, args.force)
        return
    if args.verify:
        if not args.verify.exists():
            raise UserError(f"--verify {args.verify}: no such file")
        return
    check_file(args.output, f"--output {args.output}")
    if args.output.exists() and not args.force:
        raise UserError(f"--output {args.output}: is there already; --force replaces it")


def _parser() -> cli.Parser:
    parser = cli.Parser("jaxnets.export", __doc__)
    add = parser.add_argument
    add("--workdir", type=Path, metavar="RUN", help="a run of jaxnets.train")
    add("--checkpoint", metavar="best|last|STEP", help="of a run (default: best)")
    add("--weights", metavar="NAME|FILE", help="weights by name, or whatever jaxnets.port reads")
    add("--model", metavar="NAME", help="whose weights they are (default: guessed)")
    add("--option", action="append", default=[], metavar="K=V", help="an option of the model")
    parser.add_recipe()  # whose classes and normalisation go with --weights
    add("--output", type=Path, metavar="FILE", help="where to write; the suffix says the format")
    add("--verify", type=Path, metavar="FILE", help="check an old export instead")
    add(
        "--page", type=Path, metavar="FOLDER", help="write a page that runs it in a browser instead"
    )
    add("--runtime", type=Path, metavar="FILE.tgz", help="onnxruntime-web for it, from npm")
    add("--format", metavar="NAME", help="onnx, stablehlo, pt2 (default: by the suffix)")
    add(
        "--input",
        choices=("uint8-nhwc", "float32-nchw"),
        default="uint8-nhwc",
        help="what the file takes: images as they are, or normalised ones (default: uint8-nhwc)",
    )
    add("--int8", action="store_true", help="compute in 8 bits (.onnx); with --page, by a switch")
    add(
        "--calibration",
        type=cli.whole(1, 1_000_000),
        metavar="N",
        help=f"training images for --int8 (default: {_CALIBRATION})",
    )
    add(
        "--max-drop",
        type=cli.real(0, 100),
        metavar="POINTS",
        help=f"of accuracy that --int8 may cost (default: {_MAX_DROP})",
    )
    add("--data-dir", metavar="DIR", help="where the data lies, if not where training found it")
    add("--force", action="store_true", help="replace the output if it exists")
    return parser


if __name__ == "__main__":
    cli.run(main)

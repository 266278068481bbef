"""Classifies images without labels: prints their classes, or writes a CSV.

    python -m jaxnets.predict --weights se_resnet_small --input photo.png
    python -m jaxnets.predict --workdir runs/x --input images/ --output predictions.csv
    python -m jaxnets.predict --workdir runs/x --input test.pkl --output p.csv --names --topk 3
    python -m jaxnets.predict --workdir runs/a runs/b --input test.npy --output p.csv --tta flip

The input is a pickle (.pkl) or .npz with `data` and, if it has them, `ids`, an .npy, images, or a
folder of images.  Several workdirs or weights are an ensemble: the mean of their probabilities
decides.

Without --output the likeliest classes of images are printed; a folder or an array needs it.
--sheet writes a PNG of the images with their classes.

Columns: ID and Labels, the class; with --topk K also top1, top1_proba ... topK, topK_proba, the
likeliest first; with --proba also proba_<class> for every class.  Classes are numbers from 0, or
names with --names.
"""

import argparse
import csv
import functools
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxnets import cli
from jaxnets.errors import UserError
from jaxnets.files.atomic import atomic_write, check_file
from jaxnets.inference.inputs import ARRAYS
from jaxnets.inference.tta import TTA
from jaxnets.runs.workdir import read_config

if TYPE_CHECKING:
    from jaxnets.inference.network import Member
    from jaxnets.inference.predictor import Predictor

_PRINTED = 5


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    args = _parser().parse_args(argv)
    _check_arguments(args)

    from jaxnets.inference.inputs import read_several
    from jaxnets.inference.predictor import Predictor
    from jaxnets.port.weights import load_networks

    net = Predictor(load_networks(args))
    classes = _classes(net.members[0], args.names)
    header = _header(classes, args.label_column, args.topk, args.proba)
    say = functools.partial(print, file=sys.stderr if args.output == cli.STDOUT else sys.stdout)
    inputs = read_several(args.input, net.image_size, skip_bad=args.skip_bad)
    for note in (*net.notes, *inputs.notes):
        print(f"note: {note}", file=sys.stderr)
    for member in net.members:
        at = f", step {member.step}" if member.step else ""
        say(f"{member.workdir}{at}: {member.config.model.name}")
    with cli.naming_batch(f"--batch-size {args.batch_size}"):
        probabilities, seconds = _classify(net, inputs.images, args.batch_size, args.tta)
    if args.output is None and args.sheet is None:
        _print_answers(inputs.ids, probabilities, net.class_names, args.topk or _PRINTED)
        return 0
    if args.output is not None:
        _write(
            args.output, header, _rows(inputs.ids, probabilities, classes, args.topk, args.proba)
        )
    if args.sheet is not None:
        from jaxnets.report.sheet import write_sheet

        for note in write_sheet(
            args.sheet, inputs.images, inputs.ids, probabilities, net.class_names
        ):
            print(f"note: {note}", file=sys.stderr)
    count = len(inputs.ids)
    views = "" if args.tta == "none" else f", --tta {args.tta}"
    say(f"{count:,} images in {seconds:.1f} s ({count / seconds:,.0f} images/s){views}")
    for path in (args.output, args.sheet):
        if path not in (None, cli.STDOUT):
            say(f"wrote {path}")
    return 0


def _parser() -> cli.Parser:
    parser = cli.Parser("jaxnets.predict", __doc__)
    cli.add_networks(parser)
    add = parser.add_argument
    add(
        "--input",
        type=Path,
        nargs="+",
        action="extend",
        required=True,
        help="a .pkl, .npy, .npz or folder of images, or images",
    )
    add("--output", metavar="CSV", help="where to write; - for standard output")
    add("--sheet", type=Path, metavar="PNG", help="write a picture of the images and their classes")
    add("--label-column", default="Labels", metavar="NAME", help="default: Labels")
    add("--names", action="store_true", help="write classes by name, not by number")
    add("--proba", action="store_true", help="add the probability of every class")
    add(
        "--topk",
        type=cli.whole(0),
        default=0,
        metavar="K",
        help="add, or print, the K likeliest classes",
    )
    add("--tta", choices=TTA, default="none", help="average over views of each image")
    add("--batch-size", type=cli.whole(1), default=500, metavar="N", help="default: 500")
    add("--skip-bad", action="store_true", help="leave out images that cannot be read")
    add("--force", action="store_true", help="replace --output and --sheet if they exist")
    return parser


def _check_arguments(args: argparse.Namespace) -> None:
    cli.check_networks(args)
    for workdir in args.workdir:
        read_config(workdir)
    for path in args.input:
        if not path.exists():
            raise UserError(f"--input {path}: no such file or folder")
    written = {"--output": args.output, "--sheet": args.sheet}
    if args.output == cli.STDOUT:
        del written["--output"]
    elif args.output is None and args.sheet is None:
        _check_printable(args)
    for flag, given in written.items():
        if given is not None:
            _check_written(flag, Path(given), args)


def _check_printable(args: argparse.Namespace) -> None:
    """Raises a UserError for what only a file can answer."""
    for path in args.input:
        if path.is_dir() or path.suffix.lower() in ARRAYS:
            raise UserError(
                f"--input {path}: many images: name a file for their classes by --output, or - to "
                "print it"
            )
    if args.proba:
        raise UserError("--proba: a column of every class: name a file for it by --output")


def _check_written(flag: str, path: Path, args: argparse.Namespace) -> None:
    check_file(path, f"{flag} {path}")
    if flag == "--sheet" and path.suffix.lower() != ".png":
        raise UserError(f"--sheet {path}: a PNG is written; end its name with .png")
    if not path.exists():
        return
    if any(path.samefile(other) for other in args.input):
        raise UserError(f"{flag} {path}: is the input")
    if not args.force:
        raise UserError(f"{flag} {path}: is there already; --force replaces it")


def _classes(member: "Member", names: bool) -> Sequence[str]:
    """What each class is called in the file."""
    if not names:
        return tuple(map(str, range(member.num_classes)))
    if member.known_classes is None:
        raise UserError(f"--names: the checkpoint in {member.workdir} names no classes")
    return member.class_names


def _header(classes: Sequence[str], label_column: str, topk: int, proba: bool) -> list[str]:
    """The columns, as the module's docstring says."""
    if topk > len(classes):
        raise UserError(f"--topk {topk}: at most {len(classes)}, the classes there are")
    header = ["ID", label_column]
    for rank in range(1, topk + 1):
        header += [f"top{rank}", f"top{rank}_proba"]
    if proba:
        header += [f"proba_{name}" for name in classes]
    if label_column in header[:1] + header[2:]:
        raise UserError(f"--label-column {label_column}: another column has that name")
    return header


def _classify(
    net: "Predictor", images: np.ndarray, batch_size: int, tta: str
) -> tuple[np.ndarray, float]:
    """Probabilities (N, K), and the seconds they took without compiling."""
    from tqdm import tqdm

    net.compile(len(images), batch_size)
    started = time.perf_counter()
    with tqdm(total=len(images), unit="image", leave=False, disable=not sys.stderr.isatty()) as bar:
        probabilities = net.predict_proba(
            images, tta=tta, batch_size=batch_size, progress=bar.update
        )
    return probabilities, time.perf_counter() - started


def _rows(
    ids: Iterable[str], probabilities: np.ndarray, classes: Sequence[str], topk: int, proba: bool
) -> Iterator[list[str]]:
    # Stable, so that equal probabilities rank as argmax ranks them.
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, : max(topk, 1)]
    for name, p, order in zip(ids, probabilities, ranked, strict=True):
        row = [name, classes[order[0]]]
        for i in order[:topk]:
            row += [classes[i], f"{p[i]:.6f}"]
        if proba:
            row += [f"{value:.6f}" for value in p]
        yield row


def _print_answers(
    ids: Sequence[str], probabilities: np.ndarray, names: Sequence[str], most: int
) -> None:
    """The likeliest classes of each image, with their probabilities."""
    for name, p in zip(ids, probabilities, strict=True):
        print(f"\n{name}")
        for i in np.argsort(-p, kind="stable")[:most]:
            print(f"  {p[i]:8.2%}  {names[i]}")


def _write(output: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Writes the CSV to standard output, or beside its place and renames it: whole or absent."""
    if output == cli.STDOUT:
        csv.writer(sys.stdout, lineterminator="\n").writerows((header, *rows))
        return
    path = Path(output).resolve()  # of a link, what it points to is replaced
    # Names of files need not be valid text: they are written as the bytes they are.
    with (
        atomic_write(path, name=f"--output {path}") as aside,
        open(aside, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        csv.writer(file, lineterminator="\n").writerows((header, *rows))


if __name__ == "__main__":
    cli.run(main)

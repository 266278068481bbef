"""What every command shares: its flags, one line for a user's mistake, exit codes to rely on.

0 success, 1 the answer is "no" (an audit over its budget), 2 a mistake the user can mend,
130, 143, 129 ended by SIGINT (Ctrl-C), SIGTERM, SIGHUP; 141 nobody reads the output any more.
"""

import argparse
import contextlib
import difflib
import io
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnets import config as configs
from jaxnets import signals
from jaxnets.checks import SWITCH
from jaxnets.errors import UserError, one_line, unknown
from jaxnets.files.atomic import write_text

STDOUT = "-"
"""As the name of a file, where a command says so: the standard output."""

_OVERRIDE = re.compile(r"--?(no)?config\.")
_NEGATIVE = re.compile(r"-\.?\d")
_OUT_OF_MEMORY = re.compile("RESOURCE_EXHAUSTED|[Oo]ut of memory|can't allocate memory")
_STDOUT_NAME = "the standard output"
_MOST = 2**31 - 1


class Parser(argparse.ArgumentParser):
    """argparse, stricter and kinder.

    Flags take dashes or underscores, and values that begin with a dash; one that is mistyped is
    answered with the nearest.  An empty value is an error, and so is a flag given twice, unless
    its action collects values ("append", "extend").  A switch takes =true and =false too.  A flag
    with nargs="?" takes the next argument only if that is "-" or ends in .json.  Without arguments
    the help is shown, with exit code 2.

    Args:
        module: what `python -m` runs.
        aliases: older names of flags, which the help leaves out.
    """

    def __init__(
        self,
        module: str,
        description: str | None,
        *,
        aliases: Mapping[str, str] | None = None,
        epilog: str | None = None,
    ):
        super().__init__(
            prog=f"python -m {module}",
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self._aliases = dict(aliases or {})
        self._takes_overrides = False

    def add_recipe(self, *, many: bool = False) -> None:
        """Adds --config, --config.KEY=VALUE and --print-config, for `recipe` or `recipes`."""
        self._takes_overrides = True
        group = self.add_argument_group(
            "recipe", "--config.KEY=VALUE overrides one key, e.g. --config.optim.lr=.05"
        )
        group.add_argument(
            "--config",
            metavar="RECIPE[:PRESET]" + ",..." * many,
            help="a file, or the name of a recipe of jaxnets: se_resnet",
            **({"action": "append"} if many else {}),
        )
        group.add_argument(
            "--print-config",
            action="store_true",
            help="print the resolved configuration and stop",
        )

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """The flags' values; with a recipe also `overrides`, the --config.KEY=VALUE given."""
        args = list(sys.argv[1:] if args is None else args)
        if not args:
            self.print_help(sys.stderr)
            self.exit(2)
        overrides, rest = _split(args) if self._takes_overrides else ([], args)
        found = super().parse_args(self._canonical(rest), namespace)
        if self._takes_overrides:
            found.overrides = overrides
        return found

    def print_help(self, file: Any = None) -> None:
        """Unlike argparse's, it does not hide that nothing could be written."""
        (sys.stdout if file is None else file).write(self.format_help())

    def error(self, message: str):
        # What the types below say begins with the value.
        message = re.sub(r"^argument (\S+): value ", r"\1 ", message)
        choice = re.match(r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)", message)
        if choice:
            raise unknown(choice[1], choice[2], re.findall(r"[\w-]+", choice[3]))
        extra = re.match(r"unrecognized arguments: (\S+)", message)
        if extra:
            message = f"unexpected argument {extra[1]!r}: write options as --name=value"
        raise UserError(f"{message} (see {self.prog} --help)")

    def _canonical(self, args: Sequence[str]) -> list[str]:
        """The arguments as argparse reads them without doubt: flags by their names, --name=value.

        Before argparse looks, which would name the flag that is missing, not the one mistyped.
        """
        found, seen, rest = [], set(), list(args)
        values_of = "an argument"  # of a flag that takes several, if that came last
        if {"-h", "--help", "-help"} & set(rest):
            return ["--help"]
        while rest:
            arg = rest.pop(0)
            if arg == "--":
                return [*found, arg, *rest]
            if not arg.startswith("-") or arg == STDOUT or _NEGATIVE.match(arg):
                self._check_given(values_of, arg, is_path=True)
                found.append(arg)
                continue
            name, equals, value = arg.partition("=")
            action, flag, on = self._flag(name)
            if flag in seen and not isinstance(action, argparse._AppendAction):
                self.error(f"{flag}: given twice")
            seen.add(flag)
            values_of = flag if action.nargs == "+" else "an argument"
            if action.nargs == 0:
                if value.lower() not in SWITCH and equals:
                    self.error(f"{arg}: a switch takes no value")
                if on and SWITCH[value.lower() or "true"]:
                    found.append(flag)
                continue
            if not equals and _takes_next(action, rest):
                equals, value = "=", rest.pop(0)
            elif not equals and action.nargs == "?":
                equals, value = "=", action.const
            if equals:
                self._check_given(flag, value, is_path=action.type is Path)
            several = action.nargs == "+" and not value.startswith("-")
            found += [flag, *([value] * bool(equals))] if several else [f"{flag}{equals}{value}"]
        return found

    def _check_given(self, flag: str, value: str, *, is_path: bool) -> None:
        if not value:  # as a path it would be the current folder
            self.error(f"{flag}: its value is empty")
        if value == STDOUT and is_path:
            self.error(f"{flag} -: the standard streams will not do; ./- is a file of that name")

    def _flag(self, name: str) -> tuple[argparse.Action, str, bool]:
        """The action of a flag, its name, and False where the flag is --no and that of a switch."""
        flag = "--" + name.lstrip("-").replace("_", "-")
        flag = self._aliases.get(flag, flag)
        actions = self._option_string_actions
        if flag in actions:
            return actions[flag], flag, True
        positive = "--" + flag.removeprefix("--no")
        if positive in actions and actions[positive].nargs == 0:
            return actions[positive], positive, False
        near = difflib.get_close_matches(flag, actions, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        self.error(f"unknown flag {name}{hint}")


def _takes_next(action: argparse.Action, rest: Sequence[str]) -> bool:
    """Whether the next argument, if there is one, is the value of this flag."""
    if not rest or action.nargs == "+":
        return False
    if action.nargs == "?":
        return rest[0] == STDOUT or rest[0].endswith(".json")
    return not rest[0].startswith("--")


def _split(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """The --config.KEY=VALUE among the arguments, also those with a blank for =, and the others."""
    overrides, rest, args = [], [], list(args)
    while args:
        arg = args.pop(0)
        if arg == "--":
            return overrides, [*rest, arg, *args]
        (overrides if _OVERRIDE.match(arg) else rest).append(arg)
        follows = args and (not args[0].startswith("-") or _NEGATIVE.match(args[0]))
        if _OVERRIDE.match(arg) and "=" not in arg and follows:
            overrides.append(args.pop(0))
    return overrides, rest


def recipe(args: argparse.Namespace) -> Any:
    """The configuration that --config and its overrides name; None where --print-config showed it.

    Raises:
        UserError: none is named, or a file, key or value that is wrong, with the nearest name.
    """
    return next(iter(_recipes(args, [args.config])), None)


def trainer(module: str, description: str | None, *, suffix: str = "") -> Parser:
    """A trainer's flags: those of a recipe, --workdir, whose default ends in `suffix`, --init."""
    parser = Parser(module, description)
    parser.add_recipe()
    default = f"default: runs/NAME{suffix}, the recipe's name"
    parser.add_argument(
        "--workdir", type=Path, metavar="DIR", help=f"where everything goes ({default})"
    )
    parser.add_argument(
        "--init",
        type=Path,
        metavar="NAME|WORKDIR|FILE",
        help="start from published weights, a run's best ones, or a .pt or .safetensors file; a "
        "last layer for other classes is drawn anew (default: all are drawn)",
    )
    parser.add_argument(
        "--init-strict", action="store_true", help="with --init: the last layer must fit too"
    )
    parser.set_defaults(suffix=suffix)
    return parser


def training(parser: Parser, argv: Sequence[str]) -> tuple[argparse.Namespace, Any]:
    """The flags of a `trainer`, all filled in, and its configuration, as `recipe` gives it."""
    args = parser.parse_args(argv)
    config = recipe(args)
    if config is not None and args.workdir is None:
        args.workdir = Path(f"runs/{config.name}{args.suffix}")
    if args.init_strict and args.init is None:
        raise UserError("--init-strict: is about --init, which is not given")
    return args, config


def recipes(args: argparse.Namespace) -> list[tuple[str, Any]]:
    """The same of every --config, which may list several; each with its name."""
    specs = [spec for given in args.config or [] for spec in given.split(",")]
    return list(zip(specs, _recipes(args, specs or [None]), strict=False))


def _recipes(args: argparse.Namespace, specs: Iterable[str | None]) -> list[Any]:
    found = []
    for spec in specs:
        if spec is None:
            raise UserError("no --config: name a recipe, e.g. --config configs/se_resnet.py")
        found.append(configs.read(spec, args.overrides))
    if args.print_config:
        for config in found:
            print(configs.to_json(config))
        return []
    return found


def whole(least: int, most: int = _MOST) -> Callable[[str], int]:
    """The type of a flag that takes whole numbers from `least` to `most`."""
    return _number(int, "a whole number", least, most)


def real(least: float, most: float = sys.float_info.max) -> Callable[[str], float]:
    """The type of a flag that takes numbers from `least` to `most`, never nan."""
    return _number(float, "a number", least, most)


def _number(kind: Callable, what: str, least: float, most: float) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"value {text}: {what} is needed") from None
        if least <= value <= most:
            return value
        bound = f"at most {most:,}" if value > most else f"at least {least:g}"
        raise argparse.ArgumentTypeError(f"value {text}: {what}, {bound}")

    return parse


def add_networks(parser: Parser) -> None:
    """Adds --workdir, --checkpoint and --weights, for `port.weights.load_networks`."""
    add_workdirs(parser, required=False)
    parser.add_argument(
        "--weights",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME|FILE",
        help="weights by name (python -m jaxnets.models --pretrained), or files of them",
    )
    parser.add_argument(
        "--checkpoint", default="best", metavar="best|last|STEP", help="of runs (default: best)"
    )


def check_networks(args: argparse.Namespace) -> None:
    """Raises a UserError where neither a run nor weights are named."""
    if not args.workdir and not args.weights:
        raise UserError("no network: name a run by --workdir, or weights by --weights")


def add_workdirs(parser: Parser, *, required: bool = True) -> None:
    """Adds --workdir for one run or several; given again, it adds to them."""
    parser.add_argument(
        "--workdir",
        type=Path,
        nargs="+",
        action="extend",
        required=required,
        default=[],
        metavar="DIR",
        help="one or more runs of jaxnets.train",
    )


def add_json(parser: Parser, instead: str) -> None:
    """Adds --json [FILE], for `print_json`."""
    parser.add_argument(
        "--json",
        nargs="?",
        const=STDOUT,
        metavar="FILE.json",
        help=f"JSON {instead}, into a file if one is named",
    )


def print_json(where: str, data: Any) -> None:
    """Prints JSON, or writes it into the file that --json names; an older one is replaced."""
    text = json.dumps(data, indent=2)
    if where == STDOUT:
        print(text)
        return
    write_text(Path(where), text + "\n")
    print(f"wrote {where}")


def batches(config: Any) -> list[str]:
    """The keys that say how much memory a run takes, with their values, for `naming_batch`."""
    return [f"--config.{key}={config[key]}" for key in ("batch_size", "eval_batch_size")]


@contextlib.contextmanager
def naming_batch(*flags: str) -> Iterator[None]:
    """Where memory runs out within it, the error names the flags, with values, to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as e:
        if not _is_memory(e):
            raise
        raise UserError(f"out of memory ({one_line(e)}); lower {' or '.join(flags)}") from e


def run(main: Callable[[Sequence[str]], int | None]) -> None:
    """Runs a command's main on the process's arguments and exits with its code."""
    try:
        _prepare_streams()
        signals.listen()
        code = signals.exit_code(main(sys.argv[1:]) or 0)
    except SystemExit as e:  # argparse's, after the help
        code = e.code
    except BaseException as e:
        code = _say(e)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as e:
        code = _say(e)
    sys.exit(code)


def _say(error: BaseException) -> int:
    """Says in a line what ended the command, if it is the user's to mend; the exit code."""
    if isinstance(error, OSError) and error.filename == _STDOUT_NAME:
        _drop_stdout()
        if isinstance(error, BrokenPipeError):
            return 141
    said = in_one_line(error)
    if said is None:
        raise error
    with contextlib.suppress(OSError):
        print(f"error: {said}", *said.details, sep="\n", file=sys.stderr, flush=True)
    return 2


def in_one_line(error: BaseException) -> UserError | None:
    """The last resort: what an error that nobody expected says to a user; None for a defect."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, MemoryError | RuntimeError) and _is_memory(error):
        return UserError(
            f"out of memory ({one_line(error)}); a smaller batch or network takes less"
        )
    if _raised_in(error) == "xla_bridge.py":
        asked = os.environ.get("JAX_PLATFORMS")
        named = f"JAX_PLATFORMS={asked}: " if asked else ""
        why = f" ({one_line(error)})" if str(error) else ""
        return UserError(f"{named}jax finds no such device here{why}; unset it, or set it to cpu")
    if isinstance(error, OSError):
        names = [os.fsdecode(n) for n in (error.filename, error.filename2) if n is not None]
        where = " -> ".join(names) or "input or output"
        return UserError(f"{where}: {error.strerror or one_line(error)}")
    return None


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or bool(_OUT_OF_MEMORY.search(str(error)))


def _raised_in(error: BaseException) -> str:
    """The name of the file that raised it."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return Path(frames[-1].f_code.co_filename).name if frames else ""


class _Output(io.TextIOWrapper):
    """A standard output whose errors say what they are about, as those of files do."""

    def write(self, text: str) -> int:
        with _named():
            return super().write(text)

    def flush(self) -> None:
        with _named():
            super().flush()


@contextlib.contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except OSError as e:
        e.filename = _STDOUT_NAME
        raise


def _prepare_streams() -> None:
    """What the terminal's encoding lacks is escaped; what is closed is said, or replaced."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    if sys.stdout is None:  # files opened later would take its place
        raise UserError("the standard output is closed; redirect it, e.g. > /dev/null")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if type(sys.stdout) is io.TextIOWrapper and sys.stdout is sys.__stdout__:
        like = {
            name: getattr(sys.stdout, name)
            for name in ("encoding", "errors", "line_buffering", "write_through")
        }
        sys.stdout = sys.__stdout__ = _Output(sys.stdout.detach(), **like)


def _drop_stdout() -> None:
    """Python writes once more at its end: that would print a traceback and change the exit code."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)

"""What every command shares: one line for a user's mistake, and exit codes that scripts can trust.

0 success, 1 the answer is "no" (an audit over its budget), 2 a mistake the user can mend,
130, 143, 129 ended by SIGINT (Ctrl-C), SIGTERM, SIGHUP.
"""

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence

from jaxnets import signals
from jaxnets.errors import UserError


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors that suggest the nearest flag."""

    def __init__(self, **kwargs):
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def parse_known_args(self, args=None, namespace=None):
        # Before argparse looks: it would name the flag that is missing, not the one mistyped.
        flags = [flag for action in self._actions for flag in action.option_strings]
        for arg in args or ():
            name = arg.partition("=")[0]
            if name.startswith("--") and name != "--" and name not in flags:
                near = difflib.get_close_matches(name, flags, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                self.error(f"unrecognized arguments: {arg}{hint}")
        return super().parse_known_args(args, namespace)

    def error(self, message: str):
        raise UserError(f"{message} (see python -m {self.prog} --help)")


def run(main: Callable[[Sequence[str]], int | None]) -> None:
    """Runs a command's main on the process's arguments and exits with its code."""
    signals.listen()
    try:
        code = signals.exit_code(main(sys.argv[1:]) or 0)
        sys.stdout.flush()
    except UserError as e:
        print(f"error: {e}", *e.details, sep="\n", file=sys.stderr)
        code = 2
    except BrokenPipeError:
        # The reader went away (`| head`); nothing more can be said to it.
        sys.stderr.close()
        code = 141
    sys.exit(code)

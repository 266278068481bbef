"""What goes wrong for a user, as one line that says what, where and what to do."""

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping


class UserError(Exception):
    """A mistake the user can mend; its text is one line, shown without a traceback.

    `details`, where one line cannot say it all, are lines of their own below it.
    """

    def __init__(self, message: str, details: Iterable[str] = ()):
        super().__init__(" ".join(str(message).split()))
        self.details = list(details)
        for line in self.details:
            self.add_note(line)  # so that a traceback shows them too


def unknown(kind: str, name: object, choices: Iterable[str]) -> UserError:
    """The error for a `name` that is none of `choices`, with the nearest of them.

    >>> print(unknown("model", "se_resnt", ["se_resnet", "resnet18"]))
    unknown model 'se_resnt'; did you mean 'se_resnet'? Known: resnet18, se_resnet
    """
    known = sorted(choices)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return UserError(f"unknown {kind} {name!r}{hint} Known: {', '.join(known)}")


def one_line(error: BaseException) -> str:
    """The first line of what an error says, cut to fit a line; its type if it says nothing."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= 200 else f"{line[:200]} ..."


@contextlib.contextmanager
def renamed(flags: Mapping[str, str]) -> Iterator[None]:
    """UserErrors of the block name the flags of the command at hand.

    Args:
        flags: by the keys of the configuration that they set: what commands share speaks of
            config.data.dir or --config.data.dir.
    """
    try:
        yield
    except UserError as e:
        text = str(e)
        for key, flag in flags.items():
            text = re.sub(f"(--)?{re.escape(key)}", flag, text)
        raise UserError(text, e.details) from e

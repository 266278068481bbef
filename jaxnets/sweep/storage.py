"""The study of a sweep: in SQLite, any other database or a journal file; samplers and pruners."""

import contextlib
import fcntl
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxnets.errors import UserError
from jaxnets.files.atomic import writing

FILE = "study.db"
JOURNAL = "journal:///"
SAMPLERS = ("tpe", "random", "qmc")
PRUNERS = ("asha", "hyperband", "median", "none")
REDUCTION = 3
"""Of so many trials that get as far as a rung, one goes on beyond it."""
_PATIENCE = 120.0  # seconds for which one worker waits for another's write into a SQLite file


def need_optuna() -> None:
    """Raises a UserError with the command that installs it where optuna is not there."""
    try:
        import optuna
    except ImportError as e:
        raise UserError('sweeps need optuna: pip install "jaxnets[sweep]"') from e
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def default(workdir: Path) -> str:
    """The URL of the storage in a sweep's workdir."""
    return f"sqlite:///{workdir / FILE}"


def without_password(url: str) -> str | None:
    """A URL that may be written down; None for one that holds a password.

    >>> without_password("sqlite:///a.db")
    'sqlite:///a.db'
    >>> without_password("postgresql://me:secret@host/db")
    """
    return None if re.match(r"[^/]*://[^/@]*:[^/@]*@", url) else url


def open_study(
    url: str, name: str, *, make: bool = False, sampler: Any = None, pruner: Any = None
) -> Any:
    """The optuna study `name`; of one that is new, higher values are better.

    Args:
        make: make it where there is none.

    Raises:
        UserError: the storage cannot be reached, or has no such study.
    """
    import optuna

    how = {"study_name": name, "sampler": sampler, "pruner": pruner}
    try:
        storage = _storage(url, make)
        if make:
            return optuna.create_study(
                storage=storage, direction="maximize", load_if_exists=True, **how
            )
        return optuna.load_study(storage=storage, **how)
    except UserError:
        raise
    except KeyError as e:
        raise UserError(f"--storage {_shown(url)}: no sweep {name!r} in it") from e
    except ImportError as e:
        driver = getattr(e, "name", None) or "its driver"
        raise UserError(
            f"--storage {_shown(url)}: needs a driver that is not installed ({driver}); "
            "pip install it"
        ) from e
    except Exception as e:  # of drivers, each of which has its own
        raise UserError(f"--storage {_shown(url)}: cannot be reached ({_reason(e)})") from e


def sampler(name: str) -> Any:
    """What proposes settings.

    Unseeded: workers, and one that goes on, must not propose what others have.
    """
    from optuna import samplers
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if name == "random":
            return samplers.RandomSampler()
        if name == "qmc":
            return samplers.QMCSampler(scramble=True)
        return samplers.TPESampler()


def pruner(name: str, epochs: int) -> Any:
    """What gives trials up; rungs are at a ninth and a third of the epochs."""
    from optuna import pruners

    first = max(1, epochs // REDUCTION**2)
    if name == "asha":
        return pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=REDUCTION)
    if name == "hyperband":
        return pruners.HyperbandPruner(
            min_resource=first, max_resource=epochs, reduction_factor=REDUCTION
        )
    return pruners.MedianPruner() if name == "median" else pruners.NopPruner()


@contextlib.contextmanager
def alone(workdir: Path) -> Iterator[None]:
    """No other worker in this workdir is in such a block meanwhile."""
    with writing(f"--workdir {workdir}"):
        workdir.mkdir(parents=True, exist_ok=True)
        with open(workdir / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _storage(url: str, make: bool) -> Any:
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    path = _file(url)
    if path is not None and make:
        path.parent.mkdir(parents=True, exist_ok=True)
    elif path is not None and not path.exists():
        raise UserError(f"--storage {_shown(url)}: no such file")
    if url.startswith(JOURNAL):
        assert path is not None
        return JournalStorage(JournalFileBackend(str(path), _Lock(path)))
    waits = {"timeout": _PATIENCE} if url.startswith("sqlite") else {}
    return RDBStorage(url, engine_kwargs={"connect_args": waits})


def _file(url: str) -> Path | None:
    """The file of a SQLite or journal URL."""
    for scheme in ("sqlite:///", JOURNAL):
        if url.startswith(scheme) and url != scheme:
            return Path(url.removeprefix(scheme))
    return None


class _Lock:
    """A journal's lock that goes with the process: optuna's own outlast a kill by half a minute.

    Both are held while a few lines are appended; on a network file system it needs flock, which NFS
    has since version 4.
    """

    def __init__(self, path: Path):
        self._path = path.with_name(f"{path.name}.lock")

    def acquire(self) -> bool:
        self._file = open(self._path, "w")  # noqa: SIM115 - until release
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        self._file.close()


def _shown(url: str) -> str:
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", url)


def _reason(error: BaseException) -> str:
    """The first line of what is at the bottom of an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return _shown(lines[0])[:200]

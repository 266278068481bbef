"""Whose a trial is: several workers share a study, and any of them may be killed at any time.

A worker that runs a trial says in its storage, every now and then, that it lives.  The trial of one
that does not is queued again, as a new trial of the same setting and the same workdir, where its
runs go on.  Optuna's own heartbeats would leave gaps: a journal has none, a trial whose worker dies
before the first one never counts as dead, and one that is failed is lost if its judge dies before
queueing it.  So here a trial is queued first and failed then; of two trials for one setting the one
with the lower number counts, and the other is never run.

Attributes of a trial, as JSON:

    worker     "host/name" of the worker that runs it
    beat       seconds since 1970, when it lived
    origin     the number of the trial that had this setting first
    after      numbers of the trials in whose place this one is
    closed     why it does not count: "queued again", "there is another one", "one too many"
"""

import contextlib
import fcntl
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from jaxnets.files.atomic import writing

BEAT = 15.0
"""Seconds between two signs of life."""
GRACE = 120.0
"""Seconds without one after which a worker on another machine is taken for dead."""

WORKERS = ".workers"


class Worker:
    """This process among the workers of a sweep, for the time of a `with` block.

    It holds a lock on a file in the workdir, which every process on this machine can see gone.
    """

    def __init__(self, workdir: Path):
        self._name = uuid.uuid4().hex[:12]
        self._path = workdir / WORKERS / self._name
        self.name = f"{socket.gethostname()}/{self._name}"

    def __enter__(self) -> "Worker":
        with writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "w")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:  # else a trial may still be its
            self._path.unlink(missing_ok=True)
        self._file.close()

    @contextlib.contextmanager
    def running(self, trial: Trial) -> Iterator[None]:
        """Says that this worker runs the trial, and goes on saying so."""
        trial.set_user_attr("worker", self.name)
        done = threading.Event()

        def beat() -> None:
            while True:
                with contextlib.suppress(OptunaError):  # the next one may come through
                    trial.set_user_attr("beat", time.time())
                if done.wait(BEAT):
                    return

        thread = threading.Thread(target=beat, name="beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def is_dead(trial: FrozenTrial, workdir: Path) -> bool:
    """Whether nobody runs a trial any more that the storage says is running."""
    host, _, name = trial.user_attrs.get("worker", "/").partition("/")
    if host == socket.gethostname() and _is_gone(workdir / WORKERS / name):
        return True
    started = 0.0 if trial.datetime_start is None else trial.datetime_start.timestamp()
    return time.time() - trial.user_attrs.get("beat", started) > GRACE


def _is_gone(path: Path) -> bool:
    """Whether the worker whose file this is has ended, however it did; False without a file."""
    try:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except OSError:
        return False


def take_over(study: Any, workdir: Path) -> list[int]:
    """Queues the trials of dead workers again; their numbers."""
    trials = study.get_trials(deepcopy=False)
    replaced, taken = _replaced(trials), []
    for trial in trials:
        if trial.state != TrialState.RUNNING or not is_dead(trial, workdir):
            continue
        if "closed" in trial.user_attrs or trial.number in replaced:  # its judge was killed too
            close(study, trial.number, "queued again")
        else:
            queue_again(study, trial)
            taken.append(trial.number)
    return taken


def queue(
    study: Any,
    params: Mapping[str, Any],
    distributions: Mapping[str, Any],
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Adds a trial with these settings for some worker to run."""
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=dict(params),
            distributions=dict(distributions),
            user_attrs=dict(attributes or {}),
        )
    )


def queue_again(study: Any, trial: FrozenTrial) -> None:
    """The setting of a trial, for some worker to go on with; the trial itself counts no more."""
    after = [*trial.user_attrs.get("after", []), trial.number]
    queue(study, trial.params, trial.distributions, {"origin": origin(trial), "after": after})
    if not trial.state.is_finished():
        close(study, trial.number, "queued again")


def close(study: Any, number: int, why: str) -> None:
    """Ends a running trial that counts for nothing, unless it has ended meanwhile."""
    with contextlib.suppress(ValueError, OptunaError):
        trial = study.get_trials(deepcopy=False)[number]
        # By its id: the trial belongs to another process.
        study._storage.set_trial_user_attr(trial._trial_id, "closed", why)
        study.tell(number, state=TrialState.FAIL)


def origin(trial: FrozenTrial) -> int:
    """The number of the trial that had this one's setting first: it names the workdir."""
    return trial.user_attrs.get("origin", trial.number)


def counted(trials: Sequence[FrozenTrial], *, unique: bool) -> list[FrozenTrial]:
    """The trials that count, one for each setting: the first that is not in another's place.

    Args:
        unique: trials of the same values are one setting, as in a grid.
    """
    replaced = _replaced(trials)
    found: dict[Any, FrozenTrial] = {}
    for trial in trials:
        if "closed" in trial.user_attrs or trial.number in replaced:
            continue
        found.setdefault(identity(trial, unique=unique), trial)
    return sorted(found.values(), key=origin)


def _replaced(trials: Sequence[FrozenTrial]) -> set[int]:
    return {number for trial in trials for number in trial.user_attrs.get("after", [])}


def identity(trial: FrozenTrial, *, unique: bool) -> Any:
    """What two trials of one setting have in common."""
    return tuple(sorted(trial.params.items())) if unique else origin(trial)

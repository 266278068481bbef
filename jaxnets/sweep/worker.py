"""A worker: trial after trial, until nothing is left that it, or another one, has to do."""

import time
from collections.abc import Mapping
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial, Trial, TrialState

from jaxnets import signals
from jaxnets.errors import UserError
from jaxnets.sweep import claims
from jaxnets.sweep.definition import Sweep
from jaxnets.sweep.space import Refused, Space
from jaxnets.sweep.trial import Failed, Interrupted, Pruned, run

PAUSE = 2.0
"""Seconds between two looks at what other workers do."""
MOST_REFUSED = 200
"""Settings refused one after the other, after which a search gives up."""


def fill(study: Any, sweep: Sweep) -> None:
    """Queues the listed settings that have no trial yet, or one that failed."""
    if isinstance(sweep.search, Space):
        return
    values = sweep.search.values
    distributions = {key: CategoricalDistribution(choices) for key, choices in values.items()}
    there = {claims.identity(trial, unique=True): trial for trial in _counted(study, sweep)}
    for setting in sweep.search.settings():
        trial = there.get(tuple(sorted(setting.items())))
        if trial is None:
            claims.queue(study, setting, distributions)
        elif trial.state == TrialState.FAIL:
            claims.queue_again(study, trial)


def work(study: Any, sweep: Sweep, environment: Mapping[str, str]) -> int:
    """Runs trials until all are done, also those that other workers run; the exit code.

    0, 1 where a run failed, or 128 + the signal that ended it.

    Raises:
        UserError: the space raises, or every setting is refused.
    """
    refused = 0
    waits = False
    with signals.StopSignal() as stop, claims.Worker(sweep.workdir) as worker:
        while not stop.received:
            for number in claims.take_over(study, sweep.workdir):
                print(f"trial {number}: its worker is gone; queued again", flush=True)
            counted = _counted(study, sweep)
            open_ = [trial for trial in counted if not trial.state.is_finished()]
            if not _wanted(counted, sweep):
                if not open_:
                    break
                if not waits:
                    print(f"waiting for other workers; trials left: {len(open_)}", flush=True)
                waits = True
                time.sleep(PAUSE)
                continue
            trial = study.ask()
            with worker.running(trial):
                if not _counts(study, trial, sweep):
                    continue
                try:
                    was_refused = _do(study, trial, sweep, environment)
                except Interrupted as e:
                    print("given back; the same command goes on", flush=True)
                    return 128 + e.signal
            refused = refused + 1 if was_refused else 0
            if refused == MOST_REFUSED:
                raise UserError(
                    f"{refused} settings in a row are refused, the last one: {was_refused}; "
                    "widen --budget and --macs, or narrow the space"
                )
    if stop.received:
        return 128 + stop.received
    failed = [trial for trial in counted if trial.state == TrialState.FAIL]
    return 1 if failed else 0


def is_refused(trial: FrozenTrial) -> bool:
    """Whether a trial's setting was never trained."""
    return "refused" in trial.user_attrs


def _counted(study: Any, sweep: Sweep) -> list[FrozenTrial]:
    return claims.counted(study.get_trials(deepcopy=False), unique=sweep.is_listed)


def _wanted(counted: list[FrozenTrial], sweep: Sweep) -> bool:
    """Whether there is a trial to begin."""
    if any(trial.state == TrialState.WAITING for trial in counted):
        return True
    return not sweep.is_listed and sum(not is_refused(t) for t in counted) < (sweep.trials or 0)


def _counts(study: Any, trial: Trial, sweep: Sweep) -> bool:
    """Whether a trial that was just begun is one to run; if not, it is closed.

    Another worker may have begun the same, or the last one that was asked for, in that moment.
    """
    counted = _counted(study, sweep)
    (mine,) = study.get_trials(deepcopy=False)[trial.number : trial.number + 1]
    queued = bool(mine.params) or "origin" in mine.user_attrs
    why = ""
    if sweep.is_listed and not queued:
        why = "one too many"
    elif mine.number not in {other.number for other in counted}:
        why = "there is another one"
    elif not queued:
        before = [t for t in counted if t.number < mine.number and not is_refused(t)]
        why = "one too many" if len(before) >= (sweep.trials or 0) else ""
    if why:
        claims.close(study, trial.number, why)
    return not why


def _do(study: Any, trial: Trial, sweep: Sweep, environment: Mapping[str, str]) -> str:
    """Runs a trial and tells the study what came of it; why it was refused, or ""."""
    origin = trial.user_attrs.get("origin", trial.number)
    try:
        value = run(sweep, trial, origin, environment)
    except Refused as e:
        trial.set_user_attr("refused", str(e))
        _tell(study, trial, state=TrialState.PRUNED)
        print(f"trial {origin}: not trained: {e}", flush=True)
        return str(e)
    except Pruned as e:
        trial.set_user_attr("pruned", str(e))
        _tell(study, trial, state=TrialState.PRUNED)
        print(f"  pruned {e}", flush=True)
    except Failed as e:
        trial.set_user_attr("error", str(e))
        _tell(study, trial, state=TrialState.FAIL)
    except UserError as e:
        trial.set_user_attr("error", str(e))
        _tell(study, trial, state=TrialState.FAIL)
        raise
    except Interrupted:
        claims.queue_again(study, study.get_trials(deepcopy=False)[trial.number])
        raise
    else:
        _tell(study, trial, value)
    return ""


def _tell(study: Any, trial: Trial, value: float | None = None, **how: Any) -> None:
    try:
        study.tell(trial, value, **how)
    except (ValueError, OptunaError):  # closed: this worker was taken for dead
        print(f"trial {trial.number}: another worker has taken it over", flush=True)

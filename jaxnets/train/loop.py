"""The training loop: epochs of steps, evaluation, log, checkpoints; resumes where it stopped."""

import contextlib
import dataclasses
import functools
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnets.checkpoints.store import Checkpoints
from jaxnets.devices import cpu_memory, distributed
from jaxnets.errors import UserError
from jaxnets.models.functional import Arrays
from jaxnets.optim import evaluated
from jaxnets.runs import console
from jaxnets.runs.log import Progress, RunLog, epoch_row
from jaxnets.signals import StopSignal, TimeBudget
from jaxnets.train.evaluator import Evaluator, Statistics
from jaxnets.train.step import Totals, TrainState
from jaxnets.train.stepper import Ahead, Stepper
from jaxnets.train.task import Run


def train(config: Any, run: Run, workdir: Path, *, quiet: bool = False) -> int:
    """Trains to `config.num_epochs`, from the newest checkpoint in `workdir` if there is one.

    Returns 0, also where `config.stop_after_minutes` ended it, or 128 + the signal that it heard;
    in all cases after saving.

    Raises:
        UserError: the loss or the gradients are no longer finite, and `config.on_nan` is "stop" or
            going on without the batches of that time did not help.
    """
    quiet = quiet or not distributed.is_main()
    say = (lambda *_: None) if quiet else functools.partial(print, flush=True)
    budget = distributed.agreed_budget(config.stop_after_minutes)
    with contextlib.ExitStack() as stack:
        checkpoints = Checkpoints(workdir, config.checkpoint.keep, in_background=True)
        steps = run.task.steps_per_epoch
        at = _resume(run, checkpoints, say)
        last_step = config.num_epochs * steps
        if at.step >= last_step and not at.unevaluated(steps):
            say(console.trained_already(config, at.step, workdir))
            return 0
        if at.step:
            say(console.resuming(workdir, at.step, last_step, at.unevaluated(steps)))
        data = run.data

        def evaluator(images: np.ndarray, labels: np.ndarray) -> Evaluator:
            say("compiling the evaluation ...")
            made = Evaluator(run.task, images, labels, config.eval_batch_size)
            seconds = made.compile(*at.evaluated(config))
            say(f"compiled the evaluation in {seconds:.1f} s")
            cpu_memory.give_back()
            return made

        loop = _Loop(
            config=config,
            run=run,
            workdir=workdir,
            say=say,
            quiet=quiet,
            checkpoints=stack.enter_context(checkpoints),
            stepper=Stepper(run.task, data, at.state, say, whole_epochs=config.epoch_in_one_call),
            test=evaluator(data.test_images, data.test_labels),
            val=None if data.val_images is None else evaluator(data.val_images, data.val_labels),
            stop=distributed.agreed_stop(stack.enter_context(StopSignal())),
            budget=budget,
            ahead=Ahead(run.task.layout.devices[0].platform),
            statistics=_statistics(config, run),
        )
        if config.on_nan == "restore" and checkpoints.latest_step() is None:
            loop.save_last(at)
        say(loop.table.header())
        while True:
            try:
                with _log(workdir, at.step - at.unevaluated(steps)) as log:
                    return loop.go(at, log)
            except console.Diverged as e:
                checkpoints.wait()
                if config.on_nan == "stop":
                    raise console.Diverged(e.steps, checkpoints.latest_step()) from e
                at = _resume(run, checkpoints, say)
                loop.skip.update(e.steps)
                say(
                    f"not finite in steps {e.steps.start + 1} to {e.steps.stop}: back to step "
                    f"{at.step}, from there on without those batches"
                )


@dataclasses.dataclass
class _At:
    """Where a run is."""

    state: TrainState
    totals: Totals
    progress: Progress

    @property
    def step(self) -> int:
        return int(self.state.step)

    def evaluated(self, config: Any) -> tuple[Arrays, Arrays]:
        """The weights that `config.eval_weights` names, and the statistics."""
        state = self.state
        return evaluated(config.eval_weights, state.params, state.stats, state.opt_state)

    def unevaluated(self, steps_per_epoch: int) -> bool:
        """Whether an epoch's steps are done and its evaluation, which was given up, is not."""
        return self.step % steps_per_epoch == 0 and float(self.totals.steps) > 0


def _resume(run: Run, checkpoints: Checkpoints, say: Callable[[str], None]) -> _At:
    """At the newest checkpoint that is whole, or at the start."""
    found = checkpoints.restore_last((run.state, Totals.zero()), say)
    (state, totals), meta = found or ((run.state, Totals.zero()), {"progress": {}})
    distributed.check_same("the state to start from", (state, totals))
    given = meta.get("progress")
    plain = isinstance(given, dict) and all(isinstance(x, int | float) for x in given.values())
    if not plain or not given.keys() <= set(Progress._fields):
        raise UserError(
            f"checkpoints/{checkpoints.latest_step()}: its metadata does not say how far the run "
            "is; delete that folder to go on from the one before"
        )
    return _At(state, totals, Progress(**given))


def _statistics(config: Any, run: Run) -> Statistics | None:
    averaging = run.task.averaging
    if averaging is None or config.eval_weights not in averaging.kinds:
        return None
    if averaging.statistics != "recompute":
        return None
    images, labels = run.data.train_images, run.data.train_labels
    return Statistics(run.task, images, len(labels), config.eval_batch_size)


def _log(workdir: Path, step: int) -> contextlib.AbstractContextManager[RunLog | None]:
    """The log of a run at that step; only the first of several processes keeps one."""
    if not distributed.is_main():
        return contextlib.nullcontext()
    return contextlib.closing(RunLog(workdir, resume_step=step))


@dataclasses.dataclass(kw_only=True)
class _Loop:
    """The epochs of a run, from wherever it is."""

    config: Any
    run: Run
    workdir: Path
    say: Callable[[str], None]
    quiet: bool
    checkpoints: Checkpoints
    stepper: Stepper
    test: Evaluator
    val: Evaluator | None
    stop: StopSignal
    budget: TimeBudget
    ahead: Ahead
    statistics: Statistics | None
    """Recomputes those of the average that is evaluated; None: nothing is to do."""
    skip: set[int] = dataclasses.field(default_factory=set)
    """Steps, from 0, whose batches are left out."""
    logits: np.ndarray | None = None
    """Of the test set at the end of the last epoch."""

    def go(self, at: _At, log: RunLog | None) -> int:
        """Trains on from `at`, to the end or until something stops it; the exit code."""
        config, steps = self.config, self.run.task.steps_per_epoch
        last_step = config.num_epochs * steps
        again = at.unevaluated(steps)
        while again or at.step < last_step:
            if again:
                speed = at.step * self.run.task.batch_size / max(at.progress.seconds, 1e-9)
            else:
                speed = self._train_epoch(at)
            self.checkpoints.wait()  # for those of the epoch before
            complete = at.step % steps == 0
            # Made again, only a signal cuts it short: a budget below its time must not for ever.
            given_up = complete and not self._evaluate(
                at, log, speed, self._signalled if again else self._ends
            )
            again = False
            ends = given_up or (at.step < last_step and self._ends())
            due = complete and at.step // steps % config.checkpoint.every_epochs == 0
            if due or ends or at.step == last_step:
                self.save_last(at)
            if ends:
                self.checkpoints.wait()
                self.say(console.stopped(at.step, last_step))
                return self._exit_code()
        if log is not None:
            log.images(at.step, self._end_images)
        self.checkpoints.wait()
        overflowed = at.step - at.state.updates
        self.say(console.closing(config, at.progress, self.selected_on, overflowed))
        self.say(f"next: python -m jaxnets.evaluate --workdir {shlex.quote(str(self.workdir))}")
        return self._exit_code()

    @functools.cached_property
    def table(self) -> console.EpochTable:
        """What is said of each epoch."""
        return console.EpochTable(self.config, validation=self.val is not None)

    def _signalled(self) -> bool:
        return bool(self.stop.received)

    def _ends(self) -> bool:
        """Whether a signal or the time budget asks to stop."""
        return self._signalled() or self.budget.spent()

    def _exit_code(self) -> int:
        return 128 + self.stop.received if self.stop.received else 0

    @property
    def selected_on(self) -> str:
        """The split that chooses the best checkpoint."""
        return "test" if self.val is None else "val"

    def save_last(self, at: _At) -> None:
        """Saves a checkpoint to resume from."""
        self.checkpoints.save_last(at.step, (at.state, at.totals), self._meta(at))

    def _meta(self, at: _At) -> dict[str, Any]:
        return {
            "epoch": at.step // self.run.task.steps_per_epoch,
            "class_names": list(self.run.data.class_names),
            "config": self.config.to_dict(),
            "data": self.run.identity,
            "progress": at.progress._asdict(),
            "selected_on": self.selected_on,
        }

    def _evaluate(
        self, at: _At, log: RunLog | None, speed: float, ends: Callable[[], bool]
    ) -> bool:
        """Closes a complete epoch: its row, and its checkpoint if it is the best so far.

        False, and nothing is done, where it was given up because `ends()`.
        """
        config, task = self.config, self.run.task
        totals = jax.device_get(at.totals)
        if totals.images == 0:
            raise UserError(
                f"no batch of epoch {at.step // task.steps_per_epoch} gave a finite loss and "
                "gradients; the last checkpoint is kept; try a smaller config.optim.lr"
            )
        if self.statistics is not None:
            refreshed = self.statistics.refreshed(config.eval_weights, at.state, ends)
            if refreshed is None:
                return False
            at.state = refreshed
        weights = at.evaluated(config)
        cpu_memory.give_back()
        test = self.test(*weights, ends)
        val = self.val and test and self.val(*weights, ends)
        cpu_memory.give_back()
        if test is None or (self.val is not None and val is None):
            return False
        self.logits = test.logits
        row = epoch_row(
            step=at.step,
            epoch=at.step // task.steps_per_epoch,
            lr=task.optimizer.lr(max(at.state.updates, 1) - 1),
            totals=totals,
            test=test,
            val=val,
            seconds=at.progress.seconds,
            speed=speed,
        )
        row |= at.state.scaling
        if config.on_nan == "restore":
            row["skipped_steps"] = at.progress.skipped
        if log is not None:
            log.write(row)
        at.totals = Totals.zero()
        accuracy = row["eval/accuracy" if self.val is None else "val/accuracy"]
        better = accuracy > at.progress.best_accuracy
        if better:
            at.progress = at.progress._replace(best_accuracy=accuracy, best_step=at.step)
        self.say(self.table.line(row, better))
        if better:
            self.checkpoints.save_best(at.step, (at.state, at.totals), self._meta(at))
        return True

    def _end_images(self) -> dict[str, bytes]:
        from jaxnets.report.tensorboard import end_images

        return end_images(self.config, self.run.task.augment, self.run.data, self.logits)

    def _train_epoch(self, at: _At) -> float:
        """The steps that are left of one epoch; ends early if it must stop.  Images a second."""
        started, images = time.perf_counter(), float(at.totals.images)
        epoch, first = divmod(at.step, self.run.task.steps_per_epoch)
        self.stepper.start_epoch(epoch)
        with console.EpochBar(
            self.config, epoch, first, self.run.task.steps_per_epoch, self.quiet
        ) as bar:
            self._steps(at, epoch * self.run.task.steps_per_epoch, first, bar)
        seconds = time.perf_counter() - started
        at.progress = at.progress._replace(seconds=at.progress.seconds + seconds)
        return (float(at.totals.images) - images) / seconds

    def _steps(self, at: _At, offset: int, first: int, bar: console.EpochBar) -> None:
        """Those of the epoch that begins at step `offset` of the run, from its step `first` on."""
        stepper, steps = self.stepper, self.run.task.steps_per_epoch
        every = self.config.progress.every_steps
        skip = {step - offset for step in self.skip} & set(range(first, steps))
        state, totals = stepper.replicate(at.state, at.totals)
        ahead = self.ahead
        i, checked, ends = first, first, False
        while i < steps and not ends:
            if i in skip:
                state, i, done = stepper.skip(state), i + 1, []
                at.progress = at.progress._replace(skipped=at.progress.skipped + 1)
            else:
                count, health = 1, None
                if stepper.whole_epochs and i < stepper.full_steps:
                    until = min([stepper.full_steps, *(k for k in skip if k > i)])
                    count = min(distributed.agreed_number(ahead.steps), until - i)
                    state, totals, health = stepper.steps(state, totals, count)
                else:
                    state, totals = stepper.step(state, totals, i)
                done = ahead.send(count, _Sent(i, i + count, totals, health))
                i += count
            ends = self._ends()
            if ends or i == steps:
                done += ahead.rest()
            for sent in done:
                if sent.health is not None:
                    self._check_health(sent, offset)
                    checked = sent.end
                bar.show(sent.end, lambda: stepper.read(sent.totals))  # noqa: B023 - called here
            if ends or i == steps or (not stepper.whole_epochs and i % every == 0):
                seen = stepper.read(totals)
                console.check_finite(seen, range(offset + checked, offset + i))
                bar.update(i, seen)
                checked = i
        at.state, at.totals = stepper.unreplicate(state, totals)

    def _check_health(self, sent: "_Sent", offset: int) -> None:
        """Raises Diverged if a step of a call of many was not finite; the last ones before it."""
        bad = np.flatnonzero(~np.isfinite(self.stepper.read(sent.health)[: sent.end - sent.first]))
        if len(bad):
            last = sent.first + int(bad[0]) + 1
            first = max(0, last - self.config.progress.every_steps)
            raise console.Diverged(range(offset + first, offset + last))


class _Sent(NamedTuple):
    """A call that the devices were given, steps `first` to `end` of the epoch, and its results."""

    first: int
    end: int
    totals: Totals
    health: jax.Array | None
    """What `train_steps` says of each step; None where the call is one step."""

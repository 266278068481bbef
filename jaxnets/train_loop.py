"""The training loop: epochs of steps, evaluation, log, checkpoints; resumes where it stopped."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnets import console, distributed
from jaxnets.checkpoint import Checkpoints
from jaxnets.errors import UserError
from jaxnets.evaluation import Evaluator
from jaxnets.run_log import NoLog, Progress, RunLog, epoch_row
from jaxnets.runtime import StopSignal
from jaxnets.saver import Saver
from jaxnets.stepper import Stepper
from jaxnets.task import Run, eval_params
from jaxnets.time_budget import TimeBudget
from jaxnets.train_step import Totals, TrainState


def train(config: Any, run: Run, workdir: Path, *, quiet: bool = False) -> int:
    """Trains to `config.num_epochs`, from the newest checkpoint in `workdir` if there is one.

    Returns 0, also where `config.stop_after_minutes` ended it, or 128 + the signal that stopped it;
    in both cases after saving.

    Raises:
        UserError: the loss or the gradients are no longer finite, and `config.on_nan` is "stop" or
            going on without the batches of that time did not help.
    """
    quiet = quiet or not distributed.is_main()
    say = (lambda *_: None) if quiet else functools.partial(print, flush=True)
    budget = distributed.agreed_budget(config.stop_after_minutes)
    with contextlib.ExitStack() as stack:
        checkpoints = Checkpoints(workdir, config.checkpoint.keep)
        at = _resume(run, checkpoints, say)
        last_step = config.num_epochs * run.task.steps_per_epoch
        if at.step >= last_step:
            say(f"already trained: {config.num_epochs} epochs, {at.step} steps in {workdir}")
            return 0
        if at.step:
            say(f"resuming {workdir} at step {at.step} of {last_step}")
        data = run.data

        def evaluator(images: np.ndarray, labels: np.ndarray) -> Evaluator:
            made = Evaluator(
                run.task,
                images,
                labels,
                config.eval_batch_size,
                in_one_call=config.epoch_in_one_call,
            )
            seconds = made.compile(eval_params(config, at.state), at.state.stats)
            say(f"compiled the evaluation in {seconds:.1f} s")
            return made

        loop = _Loop(
            config=config,
            run=run,
            workdir=workdir,
            say=say,
            quiet=quiet,
            saver=stack.enter_context(Saver(checkpoints)),
            stepper=Stepper(run.task, data, at.state, say, whole_epochs=config.epoch_in_one_call),
            test=evaluator(data.test_images, data.test_labels),
            val=None if data.val_images is None else evaluator(data.val_images, data.val_labels),
            stop=distributed.agreed_stop(stack.enter_context(StopSignal())),
            budget=budget,
        )
        if config.on_nan == "restore" and checkpoints.latest_step() is None:
            loop.save_last(at)
        say(console.header(validation=loop.val is not None))
        open_log = RunLog if distributed.is_main() else NoLog
        while True:
            try:
                with contextlib.closing(open_log(workdir, resume_step=at.step)) as log:
                    return loop.go(at, log)
            except console.Diverged as e:
                if config.on_nan == "stop":
                    raise
                loop.saver.wait()
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


def _resume(run: Run, checkpoints: Checkpoints, say: Callable[[str], None]) -> _At:
    """At the newest checkpoint that is whole, or at the start."""
    found = checkpoints.restore_last((run.state, Totals.zero()), say)
    (state, totals), meta = found or ((run.state, Totals.zero()), {"progress": {}})
    distributed.check_same("the state to start from", (state, totals))
    return _At(state, totals, Progress(**meta["progress"]))


@dataclasses.dataclass(kw_only=True)
class _Loop:
    """The epochs of a run, from wherever it is."""

    config: Any
    run: Run
    workdir: Path
    say: Callable[[str], None]
    quiet: bool
    saver: Saver
    stepper: Stepper
    test: Evaluator
    val: Evaluator | None
    stop: StopSignal
    budget: TimeBudget
    skip: set[int] = dataclasses.field(default_factory=set)
    """Steps, from 0, whose batches are left out."""
    logits: np.ndarray | None = None
    """Of the test set at the end of the last epoch."""

    def go(self, at: _At, log: RunLog) -> int:
        """Trains on from `at`, to the end or until something stops it; the exit code."""
        config, steps = self.config, self.run.task.steps_per_epoch
        last_step = config.num_epochs * steps
        while at.step < last_step:
            epoch, first = divmod(at.step, steps)
            started, images = time.perf_counter(), float(at.totals.images)
            self._epoch(at, epoch, first)
            seconds = time.perf_counter() - started
            at.progress = at.progress._replace(seconds=at.progress.seconds + seconds)
            complete = at.step == (epoch + 1) * steps
            self.saver.wait()  # for those of the epoch before
            if complete:
                self._evaluate(at, log, (float(at.totals.images) - images) / seconds)
            # In one call, an epoch is not begun if the time left would not do for it.
            ahead = seconds if self.stepper.whole_epochs and complete else 0.0
            ends = at.step < last_step and (self.stop.received or self.budget.spent(ahead))
            due = complete and (epoch + 1) % config.checkpoint.every_epochs == 0
            if due or ends or at.step == last_step:
                self.save_last(at)
            if ends:
                self.saver.wait()
                self.say(console.stopped(at.step, last_step))
                return 128 + self.stop.received if self.stop.received else 0
        log.images(at.step, self._end_images)
        self.saver.wait()
        self.say(console.closing(config, at.progress, self.selected_on))
        self.say(f"next: python -m jaxnets.evaluate --workdir {self.workdir}")
        return 0

    @property
    def selected_on(self) -> str:
        """The split that chooses the best checkpoint."""
        return "test" if self.val is None else "val"

    def save_last(self, at: _At) -> None:
        """Saves a checkpoint to go on from."""
        self.saver.save_last(at.step, (at.state, at.totals), self._meta(at))

    def _meta(self, at: _At) -> dict[str, Any]:
        return {
            "epoch": at.step // self.run.task.steps_per_epoch,
            "class_names": list(self.run.data.class_names),
            "config": self.config.to_dict(),
            "progress": at.progress._asdict(),
            "selected_on": self.selected_on,
        }

    def _evaluate(self, at: _At, log: RunLog, speed: float) -> None:
        """Closes a complete epoch: its row, and its checkpoint if it is the best so far."""
        config, task = self.config, self.run.task
        totals = jax.device_get(at.totals)
        if totals.images == 0:
            raise UserError(
                f"no batch of epoch {at.step // task.steps_per_epoch} gave a finite loss and "
                "gradients; the last checkpoint is kept; try a smaller config.optim.lr"
            )
        weights = eval_params(config, at.state), at.state.stats
        test = self.test(*weights)
        self.logits = test.logits
        row = epoch_row(
            step=at.step,
            epoch=at.step // task.steps_per_epoch,
            lr=task.optimizer.lr(at.step - 1),
            totals=totals,
            test=test,
            val=self.val and self.val(*weights),
            seconds=at.progress.seconds,
            speed=speed,
        )
        if config.on_nan == "restore":
            row["skipped_steps"] = at.progress.skipped
        log.write(row)
        at.totals = Totals.zero()
        accuracy = row["eval/accuracy" if self.val is None else "val/accuracy"]
        better = accuracy > at.progress.best_accuracy
        if better:
            at.progress = at.progress._replace(best_accuracy=accuracy, best_step=at.step)
        self.say(console.epoch_line(config, row, better))
        if better:
            self.saver.save_best(at.step, (at.state, at.totals), self._meta(at))

    def _end_images(self) -> dict[str, bytes]:
        from jaxnets.report.tensorboard import end_images

        return end_images(self.config, self.run.task.augment, self.run.data, self.logits)

    def _epoch(self, at: _At, epoch: int, first: int) -> None:
        """The steps that are left of one epoch; ends early, after a step, if it must stop."""
        stepper, steps = self.stepper, self.run.task.steps_per_epoch
        every = self.config.progress.every_steps
        offset = epoch * steps
        skip = {step - offset for step in self.skip} & set(range(first, steps))
        stepper.start_epoch(epoch)
        state, totals = stepper.put(at.state, at.totals)
        with console.EpochBar(self.config, epoch, first, steps, self.quiet) as bar:
            if stepper.whole_epochs and first == 0 and not skip:
                state, totals, health = stepper.epoch(state, totals)
                bad = np.flatnonzero(~np.isfinite(stepper.read(health)))
                if len(bad):
                    window = range(max(0, bad[0] + 1 - every), bad[0] + 1)
                    raise console.Diverged(range(offset + window.start, offset + window.stop))
                bar.update(steps, stepper.read(totals))
                first = steps
            checked = first
            for i in range(first, steps):
                if i in skip:
                    state = stepper.skip(state)
                    at.progress = at.progress._replace(skipped=at.progress.skipped + 1)
                else:
                    state, totals = stepper.step(state, totals, i)
                ends = self.stop.received or self.budget.spent()
                if ends or i + 1 == steps or (i + 1) % every == 0:
                    seen = stepper.read(totals)
                    console.check_finite(seen, range(offset + checked, offset + i + 1))
                    bar.update(i + 1, seen)
                    checked = i + 1
                if ends:
                    break
        at.state, at.totals = stepper.take(state, totals)

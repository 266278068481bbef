"""The training loop: epochs of steps, evaluation, log, checkpoints; resumes where it stopped."""

import contextlib
import functools
import time
from pathlib import Path
from typing import Any

import jax

from jaxnets import checkpoint, console
from jaxnets.checkpoint import Checkpoints
from jaxnets.evaluation import Evaluator
from jaxnets.run_log import Progress, RunLog, epoch_row
from jaxnets.runtime import StopSignal
from jaxnets.stepper import Stepper
from jaxnets.task import Run, eval_params
from jaxnets.train_step import Task, Totals


def train(config: Any, run: Run, workdir: Path, *, quiet: bool = False) -> int:
    """Trains to `config.num_epochs`, from the newest checkpoint in `workdir` if there is one.

    Returns 0, or 128 + the signal that stopped it (after saving).

    Raises:
        UserError: the loss or the gradients are no longer finite.
    """
    say = (lambda *_: None) if quiet else functools.partial(print, flush=True)
    task, data = run.task, run.data
    state, totals, progress = run.state, Totals.zero(), Progress()
    last_step = config.num_epochs * task.steps_per_epoch
    with contextlib.ExitStack() as stack:
        checkpoints = Checkpoints(workdir, config.checkpoint.keep)
        stack.callback(checkpoints.close)
        if checkpoints.latest_step() is not None:
            (state, totals), meta = checkpoint.restore(workdir, "last", (state, totals))
            progress = Progress(**meta["progress"])
        step = int(state.step)
        if step >= last_step:
            say(f"already trained: {config.num_epochs} epochs, {step} steps in {workdir}")
            return 0
        if step:
            say(f"resuming {workdir} at step {step} of {last_step}")
        stepper = Stepper(task, data, state, say)
        evaluate = Evaluator(task, data.test_images, data.test_labels, config.eval_batch_size)
        log = RunLog(workdir, resume_step=step)
        stack.callback(log.close)
        stop = stack.enter_context(StopSignal())

        say(console.HEADER)
        for epoch in range(step // task.steps_per_epoch, config.num_epochs):
            before = float(totals.images)
            started = time.perf_counter()
            state, totals = _epoch(config, task, stepper, state, totals, epoch, stop, quiet)
            seconds = time.perf_counter() - started
            progress = progress._replace(seconds=progress.seconds + seconds)
            step = int(state.step)
            complete = step == (epoch + 1) * task.steps_per_epoch
            better = False
            if complete:
                result = evaluate(eval_params(config, state), state.stats)
                row = epoch_row(
                    step=step,
                    epoch=epoch + 1,
                    lr=task.optimizer.lr(step - 1),
                    totals=jax.device_get(totals),
                    result=result,
                    seconds=progress.seconds,
                    speed=(float(totals.images) - before) / seconds,
                )
                log.write(row)
                totals = Totals.zero()
                better = result.accuracy > progress.best_accuracy
                if better:
                    progress = progress._replace(best_accuracy=result.accuracy, best_step=step)
                say(console.epoch_line(config, row, better))
            meta = {
                "epoch": epoch + complete,
                "class_names": list(data.class_names),
                "config": config.to_dict(),
                "progress": progress._asdict(),
            }
            if better:
                checkpoints.save_best(step, (state, totals), meta)
            due = (epoch + 1) % config.checkpoint.every_epochs == 0
            if due or stop.received or step == last_step:
                checkpoints.save_last(step, (state, totals), meta)
            if stop.received and step < last_step:
                say(f"stopped and saved at step {step}; the same command goes on from there")
                return 128 + stop.received
    say(console.closing(config, progress))
    say(f"next: python -m jaxnets.evaluate --workdir {workdir}")
    return 0


def _epoch(config: Any, task: Task, stepper: Stepper, state, totals, epoch: int, stop, quiet):
    """The steps that are left of one epoch; ends early, after a step, once `stop` has a signal."""
    stepper.start_epoch(epoch)
    first = int(state.step) - epoch * task.steps_per_epoch
    state, totals = stepper.put(state, totals)
    with console.EpochBar(config, epoch, first, task.steps_per_epoch, quiet) as bar:
        for i in range(first, task.steps_per_epoch):
            state, totals = stepper.step(state, totals, i)
            if i + 1 == task.steps_per_epoch or (i + 1) % config.progress.every_steps == 0:
                seen = stepper.read(totals)
                console.check_finite(seen, epoch * task.steps_per_epoch + i + 1)
                bar.update(i + 1, seen)
            if stop.received:
                break
    return stepper.take(state, totals)

"""The training loop: epochs of steps, evaluation, log, checkpoints; resumes where it stopped."""

import contextlib
import functools
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnets import checkpoint
from jaxnets.checkpoint import Checkpoints
from jaxnets.data.batches import epoch_order
from jaxnets.errors import UserError
from jaxnets.evaluation import Evaluation, Evaluator
from jaxnets.run_log import RunLog
from jaxnets.runtime import StopSignal
from jaxnets.task import Run, eval_params
from jaxnets.train_step import Task, Totals, TrainState, train_step

HEADER = (
    " epoch     step         lr  train loss     acc   test loss     acc     images/s   time left"
)


class Progress(NamedTuple):
    """What a checkpoint says besides its arrays: plain numbers for its JSON."""

    best_accuracy: float = -1.0
    best_step: int = 0
    seconds: float = 0.0


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
        images, labels = jax.device_put((data.train_images, data.train_labels))
        steps = _compile(task, state, totals, images, labels, say)
        evaluate = Evaluator(task, data.test_images, data.test_labels, config.eval_batch_size)
        log = RunLog(workdir, resume_step=step)
        stack.callback(log.close)
        stop = stack.enter_context(StopSignal())

        say(HEADER)
        for epoch in range(step // task.steps_per_epoch, config.num_epochs):
            before = float(totals.images)
            started = time.perf_counter()
            state, totals = _epoch(
                config, task, steps, state, totals, images, labels, epoch, stop, quiet
            )
            seconds = time.perf_counter() - started
            progress = progress._replace(seconds=progress.seconds + seconds)
            step = int(state.step)
            complete = step == (epoch + 1) * task.steps_per_epoch
            meta = {
                "epoch": epoch + complete,
                "class_names": list(data.class_names),
                "config": config.to_dict(),
            }
            if complete:
                result = evaluate(eval_params(config, state), state.stats)
                row = _row(task, state, totals, result, progress)
                row["images_per_second"] = (float(totals.images) - before) / seconds
                log.write(row)
                totals = Totals.zero()
                better = result.accuracy > progress.best_accuracy
                if better:
                    progress = progress._replace(best_accuracy=result.accuracy, best_step=step)
                    meta["progress"] = progress._asdict()
                    checkpoints.save_best(step, (state, totals), meta)
                say(_line(config, row, better))
            due = (epoch + 1) % config.checkpoint.every_epochs == 0
            if due or stop.received or step == last_step:
                meta["progress"] = progress._asdict()
                checkpoints.save_last(step, (state, totals), meta)
            if stop.received and step < last_step:
                say(f"stopped and saved at step {step}; the same command goes on from there")
                return 128 + stop.received
    say(
        f"done: {config.num_epochs} epochs in {_clock(progress.seconds)}; best test accuracy "
        f"{progress.best_accuracy:.2%} at step {progress.best_step}\n"
        f"next: python -m jaxnets.evaluate --workdir {workdir}"
    )
    return 0


def _row(
    task: Task, state: TrainState, totals: Totals, result: Evaluation, progress: Progress
) -> dict[str, Any]:
    """An epoch's line of metrics.jsonl; accuracies are fractions."""
    step, means = int(state.step), jax.device_get(totals)
    return {
        "step": step,
        "epoch": step // task.steps_per_epoch,
        "lr": float(task.optimizer.lr(step - 1)),
        "train/loss": float(means.loss / means.images),
        "train/accuracy": float(means.correct / means.images),
        "eval/loss": result.loss,
        "eval/accuracy": result.accuracy,
        "grad_norm": float(means.grad_norm / means.steps),
        "seconds": progress.seconds,
    }


def _compile(task, state, totals, images, labels, say) -> dict[int, Any]:
    """The compiled step for each batch size of an epoch: the full one and the last, smaller one."""
    order = jax.ShapeDtypeStruct((len(labels),), np.int32)
    step = jax.jit(
        functools.partial(train_step, task), static_argnames="size", donate_argnums=(0, 1)
    )
    compiled = {}
    for size in sorted({task.batch_size, _last_size(task, len(labels))}, reverse=True):
        started = time.perf_counter()
        lowered = step.lower(state, totals, images, labels, order, size=size)
        compiled[size] = lowered.compile()
        say(f"compiled the step for batches of {size} in {time.perf_counter() - started:.1f} s")
    return compiled


def _last_size(task, count: int) -> int:
    return count - (task.steps_per_epoch - 1) * task.batch_size


def _epoch(config, task, steps, state: TrainState, totals, images, labels, epoch, stop, quiet):
    """The steps that are left of one epoch; ends early, after a step, once `stop` has a signal."""
    from tqdm import tqdm

    count = len(labels)
    order = jax.device_put(epoch_order(config.seed, epoch, count))
    first = int(state.step) - epoch * task.steps_per_epoch
    bar = tqdm(
        total=task.steps_per_epoch,
        initial=first,
        desc=f"epoch {epoch + 1}/{config.num_epochs}",
        unit="step",
        leave=False,
        disable=quiet or not sys.stderr.isatty(),
    )
    with bar:
        for i in range(first, task.steps_per_epoch):
            last = i + 1 == task.steps_per_epoch
            size = _last_size(task, count) if last else task.batch_size
            state, totals = steps[size](state, totals, images, labels, order)
            if last or (i + 1) % config.progress.every_steps == 0:
                seen = jax.device_get(totals)
                if not np.isfinite(seen.loss + seen.grad_norm):
                    raise UserError(
                        f"the loss or the gradients are not finite: seen at step "
                        f"{epoch * task.steps_per_epoch + i + 1}; the last checkpoint is kept; "
                        "try a smaller config.optim.lr, or config.optim.clip"
                    )
                bar.set_postfix(
                    loss=f"{seen.loss / seen.images:.3f}",
                    acc=f"{seen.correct / seen.images:.1%}",
                    refresh=False,
                )
                bar.update(i + 1 - bar.n)
            if stop.received:
                break
    return state, totals


def _line(config: Any, row: dict, best: bool) -> str:
    left = (config.num_epochs - row["epoch"]) * row["seconds"] / row["epoch"]
    return (
        f"{row['epoch']:6d} {row['step']:8d} {row['lr']:10.6f} "
        f"{row['train/loss']:11.4f} {row['train/accuracy']:7.2%} "
        f"{row['eval/loss']:11.4f} {row['eval/accuracy']:7.2%}{'*' if best else ' '} "
        f"{row['images_per_second']:11.0f} {_clock(left):>11}"
    )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"

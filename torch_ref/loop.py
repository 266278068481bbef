"""The twin's training loop: that of `jaxnets.train.loop`, with its batches, log and console."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jaxnets.data import Dataset
from jaxnets.data.batches import epoch_order
from jaxnets.data.identity import identity
from jaxnets.errors import UserError
from jaxnets.runs import console
from jaxnets.runs.log import Progress, RunLog, epoch_row
from jaxnets.signals import StopSignal, TimeBudget
from torch_ref import checkpoint
from torch_ref.averaging import recompute
from torch_ref.optim import make_optimizer
from torch_ref.step import Task, Totals, autocast, evaluate, inputs, train_step


def train(config: Any, task: Task, data: Dataset, workdir: Path, *, quiet: bool = False) -> int:
    """Trains to `config.num_epochs`, from `workdir`/last.pt if there is one.

    Returns 0, also where `config.stop_after_minutes` ended it, or 128 + the signal that it heard;
    in all cases after saving.

    Raises:
        UserError: the loss or the gradients are no longer finite.
    """
    if config.on_nan != "stop":
        raise UserError(f"config.on_nan={config.on_nan}: torch_ref.train only knows stop")
    budget = TimeBudget(config.stop_after_minutes)
    say = (lambda *_: None) if quiet else functools.partial(print, flush=True)
    step, acc, totals, progress, steps = 0, None, Totals(), Progress(), task.steps_per_epoch
    last_step = config.num_epochs * steps
    last, best = workdir / checkpoint.LAST, workdir / checkpoint.BEST
    if last.exists():
        state = checkpoint.restore(last, task)
        step, acc = state["step"], state["acc"]
        totals, progress = Totals(*state["totals"]), Progress(**state["progress"])
    again = step % steps == 0 and totals.steps > 0  # an evaluation that was given up
    if step >= last_step and not again:
        say(console.trained_already(config, step, workdir))
        return 0
    if step:
        say(console.resuming(workdir, step, last_step, again))
    test = _tensors(data.test_images, data.test_labels)
    val = None if data.val_images is None else _tensors(data.val_images, data.val_labels)
    selected_on, known = "test" if val is None else "val", identity(data)
    table = console.EpochTable(config, validation=val is not None)
    with contextlib.closing(RunLog(workdir, resume_step=step - again)) as log, StopSignal() as stop:
        say(table.header())

        def ends() -> bool:
            return bool(stop.received) or budget.spent()

        while again or step < last_step:
            lr = None
            if again:
                speed = step * task.batch_size / max(progress.seconds, 1e-9)
            else:
                before, started = totals.images, time.perf_counter()
                step, totals, lr = _epoch(config, task, data, step, totals, ends, quiet)
                seconds = time.perf_counter() - started
                progress = progress._replace(seconds=progress.seconds + seconds)
                speed = (totals.images - before) / seconds
            complete = step % steps == 0
            better = given_up = False
            if complete:
                size = config.eval_batch_size
                # Made again, only a signal cuts it short, as in `jaxnets.train.loop`.
                stopped = (lambda: bool(stop.received)) if again else ends
                refreshed = _refresh(config, task, data, stopped)
                with _evaluated(config, task) as evaluated:
                    on_test = evaluate(evaluated, *test, size, stopped) if refreshed else None
                    on_val = on_test and val and evaluate(evaluated, *val, size, stopped)
                given_up = on_test is None or (val is not None and on_val is None)
            if complete and not given_up:
                result = on_test if on_val is None else on_val
                row = epoch_row(
                    step=step,
                    epoch=step // steps,
                    lr=_lr(config, task) if lr is None else lr,
                    totals=totals,
                    test=on_test,
                    val=on_val,
                    seconds=progress.seconds,
                    speed=speed,
                )
                if task.scaler.is_enabled():
                    row["loss_scale"] = task.scaler.get_scale()
                    row["overflowed_steps"] = step - task.optimizer.count
                log.write(row)
                totals, acc = Totals(), 100 * on_test.accuracy
                better = result.accuracy > progress.best_accuracy
                if better:
                    progress = progress._replace(best_accuracy=result.accuracy, best_step=step)
                say(table.line(row, better))
            state = {
                "acc": acc,
                "epoch": step // steps,
                "step": step,
                "config": config.to_dict(),
                "class_names": list(data.class_names),
                "data": known,
                "totals": list(totals),
                "progress": progress._asdict(),
                "selected_on": selected_on,
            }
            if better:
                checkpoint.save(best, task, state)
            again = False
            due = complete and step // steps % config.checkpoint.every_epochs == 0
            ended = given_up or (step < last_step and ends())
            if due or ended or step == last_step:
                checkpoint.save(last, task, state)
            if ended:
                say(console.stopped(step, last_step))
                return 128 + stop.received if stop.received else 0
        say(console.closing(config, progress, selected_on, step - task.optimizer.count))
        return 128 + stop.received if stop.received else 0


def _epoch(
    config: Any,
    task: Task,
    data: Dataset,
    step: int,
    totals: Totals,
    ends: Callable[[], bool],
    quiet: bool,
) -> tuple[int, Totals, float | None]:
    """The steps that are left of one epoch; ends early, after a step, once `ends()`.

    Returns the steps done, the epoch's totals as plain numbers, and the learning rate of the last
    update, if there was one.
    """
    epoch, first = divmod(step, task.steps_per_epoch)
    order = epoch_order(config.seed, epoch, len(data.train_labels))
    checked, lr = step, None
    with console.EpochBar(config, epoch, first, task.steps_per_epoch, quiet) as bar:
        for done in range(first + 1, task.steps_per_epoch + 1):
            rate, updates = task.optimizer.lr, task.optimizer.count
            totals += train_step(task, step, *batch(task, data, order, done - 1))
            lr = rate if task.optimizer.count > updates else lr
            step += 1
            ended = ends()
            every = config.progress.every_steps
            bar.show(done, totals.read)
            if ended or done == task.steps_per_epoch or done % every == 0:
                seen = totals.read()
                console.check_finite(seen, range(checked, step))
                bar.update(done, seen)
                checked = step
            if ended:
                break
    return step, totals.read(), lr


def _lr(config: Any, task: Task) -> float:
    """The learning rate of the last update, which the optimizer no longer knows."""
    some = torch.nn.Parameter(torch.zeros(()))
    some.grad = torch.zeros(())
    optimizer = make_optimizer(
        [some],
        config.optim,
        config.schedule,
        steps_per_epoch=task.steps_per_epoch,
        num_epochs=config.num_epochs,
    )
    for _ in range(task.optimizer.count - 1):
        optimizer.step()
    return optimizer.lr


def _tensors(images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(images), torch.from_numpy(labels).long()


def batch(task: Task, data: Dataset, order: np.ndarray, index: int) -> tuple[Tensor, Tensor]:
    """Batch `index` (from 0) of the epoch that visits the images in `order`, int32 (N,)."""
    rows = order[index * task.batch_size : (index + 1) * task.batch_size]
    labels = data.train_labels[rows].astype(np.int64)
    return torch.from_numpy(data.train_images[rows]), torch.from_numpy(labels)


@contextlib.contextmanager
@torch.no_grad()
def _evaluated(config: Any, task: Task) -> Iterator[Task]:
    """Meanwhile the network of the task that it yields has the weights to evaluate."""
    average = task.averages.get(config.eval_weights)
    if average is not None and average.n_averaged > 0:
        yield task._replace(net=average.module)
        return
    if config.eval_weights != "slow":  # an average has not begun before it takes weights
        yield task
        return
    groups = task.optimizer.optimizer.param_groups  # of these there are slow ones
    params = [p for group in groups for p in group["params"]]
    fast = [p.clone() for p in params]
    for p, slow in zip(params, task.optimizer.optimizer.slow, strict=True):
        p.copy_(slow)
    yield task
    for p, value in zip(params, fast, strict=True):
        p.copy_(value)


def _refresh(config: Any, task: Task, data: Dataset, stopped: Callable[[], bool]) -> bool:
    """Recomputes the statistics of the average that is evaluated; False if it was given up."""
    average = task.averages.get(config.eval_weights)
    if average is None or average.n_averaged == 0 or task.averaging.statistics == "average":
        return True
    fixed = {id(norm) for norm in task.fixed_norms}
    names = tuple(name for name, module in task.net.named_modules() if id(module) in fixed)
    images = torch.from_numpy(data.train_images)

    def batches() -> Iterator[Tensor]:
        return (inputs(task, some) for some in images.split(config.eval_batch_size))

    with autocast(task):
        return recompute(average.module, names, batches, stopped)

"""The checkpoints of a run: the last few to resume from, and the best one.

Whatever happens to one of them, or to the process that writes it, those before it are there.
"""

import contextlib
import itertools
import re
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.checkpoints import folder as checkpoint_folder
from jaxnets.checkpoints.folder import Damaged
from jaxnets.errors import UserError
from jaxnets.files.atomic import make_folder

LAST, BEST = "checkpoints", "best"
# What a kill leaves behind: a checkpoint half-written, or one half-removed.
_LEFT_BEHIND = re.compile(r"\d+\.(old|new|orbax-|damaged\.old).*")
_DAMAGED = ".damaged"  # appended to the name of a folder that is set aside


class Checkpoints:
    """The checkpoints of one run: `<workdir>/checkpoints/<step>` and `<workdir>/best/<step>`.

    For each kept checkpoint, `best` keeps the best one at or before it: a run that goes back to it
    finds the best that it had.  The newest is the best of all.  Of several processes only the first
    writes; all of them may call everything.

    With `in_background` a thread of its own writes, in the order given: a full-size network takes a
    third of a second, in which an accelerator would have nothing to do.  The state is copied at
    once, since the next step may have its buffers.  After a failed write, nothing more is written,
    so that no last one counts on a best one that is missing.

    >>> with Checkpoints(workdir, keep=2, in_background=True) as checkpoints:  # doctest: +SKIP
    ...     checkpoints.save_best(step, state, meta)
    ...     checkpoints.save_last(step, state, meta)
    ...     checkpoints.wait()
    """

    def __init__(self, workdir: Path, keep: int, *, in_background: bool = False):
        self._last, self._best, self._keep = workdir / LAST, workdir / BEST, keep
        self._writes = jax.process_index() == 0
        self._thread = ThreadPoolExecutor(1, "checkpoints") if in_background else None
        self._newest: Future | None = None
        for folder in (self._last, self._best) if self._writes else ():
            make_folder(folder)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exc: object) -> None:
        if self._thread is not None:
            self._thread.shutdown()  # waits; errors are for `wait`

    def save_last(self, step: int, state: Any, meta: dict) -> None:
        """Adds one to resume from, and removes the oldest beyond `keep`."""
        self._save(self._write_last, step, state, meta)

    def save_best(self, step: int, state: Any, meta: dict) -> None:
        """Adds a best one; it is no longer the best of a later one that an interrupted run left."""
        self._save(self._write_best, step, state, meta)

    def wait(self) -> None:
        """Returns when all are written.

        Raises:
            UserError: one could not be.
        """
        if self._newest is not None:
            self._newest.result()

    def _save(self, write: Callable, step: int, state: Any, meta: dict) -> None:
        if not self._writes:
            return
        if self._thread is None:
            write(step, state, meta)
            return
        # On a CPU device_get gives views of the buffers.
        copy, before = jax.tree.map(np.array, jax.device_get(state)), self._newest

        def after_those_before() -> None:
            if before is not None:
                before.result()
            write(step, copy, meta)

        self._newest = self._thread.submit(after_those_before)

    def _write_last(self, step: int, state: Any, meta: dict) -> None:
        checkpoint_folder.write(self._last / str(step), state, meta)
        for old in _steps(self._last)[: -self._keep]:
            _remove(self._last / str(old))
        last, best = _steps(self._last), _steps(self._best)
        for this, later in itertools.pairwise(best):
            if not any(this <= step < later for step in last):
                _remove(self._best / str(this))
        for path in self._last.glob(f"*{_DAMAGED}"):  # written anew, or no longer of use
            _remove(path)

    def _write_best(self, step: int, state: Any, meta: dict) -> None:
        checkpoint_folder.write(self._best / str(step), state, meta)
        self._forget_best_after(step)

    def restore_last(self, like: Any, say: Callable[[str], None]) -> tuple[Any, dict] | None:
        """The state and metadata of the newest checkpoint that is whole; None if there is none.

        Says in a line each which are damaged or half-written, and sets them aside, so that training
        writes these steps anew.

        Raises:
            UserError: there are some, none of them whole; or they are of another network.
        """
        self._tidy(say)
        damaged = []
        for step in reversed(_steps(self._last)):
            try:
                restored = _fitting(self._last / str(step), like)
            except Damaged as e:
                say(f"warning: {e}; trying the one before")
                damaged.append(self._last / str(step))
                continue
            for path in damaged if self._writes else ():
                shutil.rmtree(f"{path}{_DAMAGED}", ignore_errors=True)
                path.rename(f"{path}{_DAMAGED}")
            if self._writes and any(best <= step for best in _steps(self._best)):
                self._forget_best_after(step)
            return restored
        if damaged:
            raise UserError(
                f"{self._last}: none of the {len(damaged)} checkpoints there is whole; delete that "
                "folder to train from the start"
            )
        return None

    def latest_step(self) -> int | None:
        """The step of the newest one to resume from."""
        return max(_steps(self._last), default=None)

    def _tidy(self, say: Callable[[str], None]) -> None:
        if not self._writes:
            return
        for folder in (self._last, self._best):
            for path in folder.iterdir():
                if _LEFT_BEHIND.fullmatch(path.name):
                    if not path.name.endswith(".old"):
                        say(f"warning: {path}: half-written by a process that was killed; removed")
                    shutil.rmtree(path, ignore_errors=True)

    def _forget_best_after(self, step: int) -> None:
        for later in _steps(self._best):
            if later > step:
                _remove(self._best / str(later))


class Stored(NamedTuple):
    """A checkpoint as it was stored."""

    state: dict[str, Any]
    """step, params, stats and, of a run, opt_state; parameters and statistics by NNX path."""
    totals: dict[str, Any]
    """The sums of the epoch that the checkpoint is in."""
    meta: dict[str, Any]
    folder: Path
    step: int


def read(workdir: Path, which: str | int) -> Stored:
    """A checkpoint as nested dictionaries, whatever network and optimizer it is of.

    Args:
        which: "last", "best" or a step.

    Raises:
        UserError: no such checkpoint, or one that is damaged; then it names the others.
    """
    folder, step = find(workdir, which)
    try:
        (state, totals), meta = checkpoint_folder.read(folder / str(step), None)
    except Damaged as e:
        others = _others(workdir, (folder, step))
        hint = f"there is --checkpoint {' or '.join(others)}" if others else "it is the only one"
        raise UserError(f"{e}; {hint}") from e
    return Stored(state, totals, meta, folder, step)


def _others(workdir: Path, found: tuple[Path, int]) -> list[str]:
    """How the other checkpoints are named: best and last, then those that neither is, by step."""
    last, best = _steps(workdir / LAST), _steps(workdir / BEST)
    names = ["best"] * bool(best) + ["last"] * bool(last) + [*map(str, sorted({*last, *best}))]
    places: dict[tuple[Path, int], str] = {}
    for name in names:
        places.setdefault(find(workdir, name), name)
    return [name for place, name in places.items() if place != found]


def latest_meta(workdir: Path) -> dict:
    """The metadata of the newest whole checkpoint to resume from; empty if there is none."""
    for step in reversed(_steps(workdir / LAST)):
        with contextlib.suppress(Damaged):
            return checkpoint_folder.read_meta(workdir / LAST / str(step))
    return {}


def find(workdir: Path, which: str | int) -> tuple[Path, int]:
    """The folder and the step of a checkpoint named "last", "best" or by its step."""
    which = str(which)
    if not workdir.is_dir():
        raise UserError(f"{workdir}: no such folder; give the --workdir of a training run")
    last, best = _steps(workdir / LAST), _steps(workdir / BEST)
    if which == "last" and last:
        return workdir / LAST, last[-1]
    if which == "best" and best:
        return workdir / BEST, best[-1]
    if which.isdigit():
        for folder, steps in ((LAST, last), (BEST, best)):
            if int(which) in steps:
                return workdir / folder, int(which)
    if not last and not best:
        raise UserError(f"{workdir}: no checkpoints there; train into it first")
    if which not in ("last", "best") and not which.isdigit():
        raise UserError(f"--checkpoint {which}: best, last or a step")
    have = ", ".join(map(str, sorted({*last, *best})))
    raise UserError(f"{workdir}: no checkpoint {which}; there are steps {have}")


def _steps(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.is_dir() and p.name.isdigit())


def _fitting(path: Path, like: Any) -> tuple[Any, dict]:
    """A checkpoint in arrays of `like`'s structure, shapes and types, and its metadata."""
    state, meta = checkpoint_folder.read(
        path, jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
    )

    def fit(expected: Any, found: np.ndarray) -> jax.Array:
        if expected.shape != found.shape:
            raise UserError(
                f"{path}: the checkpoint is of another network (an array has shape {found.shape}, "
                f"not {expected.shape})"
            )
        return jnp.array(found, expected.dtype)

    return jax.tree.map(fit, like, state), meta


def _remove(path: Path) -> None:
    """Removes a checkpoint; a kill meanwhile leaves nothing that looks like a whole one."""
    old = path.with_name(path.name + ".old")
    path.rename(old)
    shutil.rmtree(old, ignore_errors=True)

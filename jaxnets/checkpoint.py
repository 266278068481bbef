"""Checkpoints: the last few to go on from, and the best one, by orbax.

A checkpoint is a folder with `state`, a pytree of arrays, and `meta`, JSON: configuration, class
names, epoch, metrics.  Orbax writes it aside and renames it, so a kill leaves the one before.
"""

import logging
from pathlib import Path
from typing import Any

import jax

from jaxnets.errors import UserError

LAST, BEST = "checkpoints", "best"


class Checkpoints:
    """The checkpoints of one run: `<workdir>/checkpoints/<step>` and `<workdir>/best/<step>`."""

    def __init__(self, workdir: Path, keep: int):
        self._last = _manager(workdir / LAST, keep)
        self._best = _manager(workdir / BEST, 1)

    def save_last(self, step: int, state: Any, meta: dict) -> None:
        """Adds one to go on from, and removes the oldest beyond `keep`."""
        _save(self._last, step, state, meta)

    def save_best(self, step: int, state: Any, meta: dict) -> None:
        """Replaces the best one."""
        _save(self._best, step, state, meta)

    def latest_step(self) -> int | None:
        """The step of the newest one to go on from."""
        return self._last.latest_step()

    def close(self) -> None:
        self._last.close()
        self._best.close()


def restore(workdir: Path, which: str, like: Any) -> tuple[Any, dict]:
    """The state and metadata of a checkpoint.

    Args:
        which: "last", "best" or a step.
        like: a pytree of the state's structure; its arrays or shapes are what is expected.

    Raises:
        UserError: no such checkpoint, or one that is damaged or of another network.
    """
    folder, step = find(workdir, which)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), like)
    return _read(folder, step, shapes)


def restore_weights(workdir: Path, which: str) -> tuple[dict, dict]:
    """The parameters and the BatchNorm statistics of a checkpoint, by dotted NNX path.

    Unlike `restore` it needs to know neither the network nor the optimizer.
    """
    state, _ = _read(*find(workdir, which), None)[0]
    return state["params"], state["stats"]


def _read(folder: Path, step: int, shapes: Any) -> tuple[Any, dict]:
    import orbax.checkpoint as ocp

    args = ocp.args.Composite(state=ocp.args.StandardRestore(shapes), meta=ocp.args.JsonRestore())
    manager = _manager(folder, None)
    try:
        restored = manager.restore(step, args=args)
    except Exception as e:
        raise UserError(
            f"{folder / str(step)}: the checkpoint cannot be read ({_reason(e)}); delete that "
            "folder to use the one before it"
        ) from e
    finally:
        manager.close()
    return restored.state, restored.meta


def find(workdir: Path, which: str) -> tuple[Path, int]:
    """The folder and the step of a checkpoint named "last", "best" or by its step."""
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


def _manager(folder: Path, keep: int | None):
    import orbax.checkpoint as ocp

    # Orbax reports each save at level INFO and sharding advice at WARNING; neither is the user's.
    logging.getLogger("absl").setLevel(logging.ERROR)
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
    return ocp.CheckpointManager(folder.absolute(), options=options)


def _save(manager, step: int, state: Any, meta: dict) -> None:
    import orbax.checkpoint as ocp

    args = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
    try:
        if step in manager.all_steps():  # left by a run that was interrupted after it
            manager.delete(step)
        manager.save(step, args=args)
    except Exception as e:
        raise UserError(
            f"{manager.directory / str(step)}: the checkpoint cannot be written ({_reason(e)}); "
            "those before it are kept"
        ) from e


def _reason(error: Exception) -> str:
    """The first line of what orbax says, cut to fit a line."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]

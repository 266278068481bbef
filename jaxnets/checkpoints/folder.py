"""One checkpoint: a folder that orbax writes, with checksums over its files.

It holds `state`, a pytree of arrays, `meta`, JSON, and SHA256SUMS over both.  It is written aside
and renamed: a kill at any moment leaves a whole one or none.

Of several processes only the first one writes, all of it, though orbax could let each write a part.
Every process holds the whole state, so each part would be a copy of what the first one has; one
writer needs no barrier, so that a process which dies cannot leave the others waiting in a save, or
half a checkpoint; and the file is the same for any number of processes.  The limit: the state must
fit one device and one host's memory, and is written at the speed of one host.
"""

import contextlib
import errno
import hashlib
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from jaxnets.errors import UserError
from jaxnets.files import regular

SUMS = "SHA256SUMS"
"""Checksums of a folder's files; `sha256sum --check SHA256SUMS` reads it as well."""


class Damaged(UserError):
    """A checkpoint that is not as it was written; others may be."""


def read(path: Path, like: Any) -> tuple[Any, dict]:
    """State and metadata as they were stored; `like`: None, or numpy arrays in their structure."""
    import orbax.checkpoint as ocp

    # Without `like`, what was saved on more devices than there are here goes to the first of them.
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    restored, meta = _restore(path, state=ocp.args.StandardRestore(like, fallback_sharding=here))
    return restored.state, meta


def read_meta(path: Path) -> dict:
    """The metadata alone."""
    return _restore(path)[1]


def _restore(path: Path, **items: Any) -> tuple[Any, dict]:
    """What orbax finds of these items, and the metadata."""
    import orbax.checkpoint as ocp

    checked = _check(path)
    try:
        regular.check_below(path)  # orbax would wait for a pipe
    except OSError as e:
        raise Damaged(f"{path}: the checkpoint is damaged ({e.filename}: {e.strerror})") from e
    try:
        with _checkpointer() as orbax:
            args = ocp.args.Composite(meta=ocp.args.JsonRestore(), **items)
            restored = orbax.restore(path.absolute(), args=args)
            meta = dict(restored.meta)
    except Exception as e:
        # All its files are as they were written: then it does not fit what is asked for.
        error = UserError if checked else Damaged
        raise error(f"{path}: the checkpoint cannot be read ({_reason(e)})") from e
    if meta.pop("checksums", False) and not checked:
        raise Damaged(f"{path}: the checkpoint is damaged ({SUMS} is missing)")
    return restored, meta


def _check(path: Path) -> bool:
    """Whether a checkpoint's files are as they were written; False: it has no checksums."""
    if not (path / SUMS).exists():
        return False
    try:
        wrong = fault(path)
    except PermissionError as e:
        raise UserError(f"{e.filename}: cannot be read ({e.strerror})") from e
    except OSError as e:
        wrong = f"{e.filename}: {e.strerror}"
    if wrong:
        raise Damaged(f"{path}: the checkpoint is damaged ({wrong})")
    return True


def write(path: Path, state: Any, meta: dict) -> None:
    """Writes a checkpoint, in the place of the one at `path` if there is one.

    Raises:
        UserError: it cannot be written; nothing of it is left.
    """
    import orbax.checkpoint as ocp

    aside, old = (path.with_name(path.name + suffix) for suffix in (".new", ".old"))
    state = jax.device_get(state)  # host arrays do not depend on the devices of this run
    try:
        _check_space(path.parent, sum(x.nbytes for x in jax.tree.leaves(state)))
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
        with _checkpointer() as orbax, _no_stray_tracebacks():
            args = ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                meta=ocp.args.JsonSave({**meta, "checksums": True}),
            )
            orbax.save(aside.absolute(), args=args)
        write_sums(aside)
        if path.exists():
            path.rename(old)
        aside.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    except Exception as e:
        for left in path.parent.glob(f"{aside.name}*"):
            shutil.rmtree(left, ignore_errors=True)
        others = any(other.name.isdigit() for other in path.parent.glob("*"))
        kept = "; those before it are kept" if others else ""
        raise UserError(f"{path}: the checkpoint cannot be written ({_reason(e)}){kept}") from e


def _check_space(folder: Path, size: int) -> None:
    """Raises an OSError if the folder is gone (orbax would make it anew) or the disk is full."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(
            errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {size:,} bytes to write, {free:,} are free"
        )


def write_sums(folder: Path) -> None:
    """Adds the SHA-256 of every file below `folder`, after seeing all of them safely on disk."""
    sums = folder / SUMS
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    lines = [f"{_sha256(folder / name, sync=True)}  {name}\n" for name in names if name != SUMS]
    with open(sums, "w") as f:
        f.writelines(lines)
        f.flush()
        os.fsync(f.fileno())


def fault(folder: Path) -> str | None:
    """What is wrong with the files that SUMS lists, or None; files that it does not list are free.

    Raises:
        OSError: SUMS or a listed file cannot be read, which a missing one cannot either.
    """
    text = regular.read_text(folder / SUMS, errors="replace")
    if not text.endswith("\n"):
        return f"{SUMS} is cut short"
    for line in text.splitlines():
        expected, _, name = line.partition("  ")
        path = folder / name
        if not name or "\0" in name or not path.is_file():
            return f"{name or line!r} is missing"
        if _sha256(path) != expected:
            return f"{name} has changed"
    return None


def _sha256(path: Path, sync: bool = False) -> str:
    with regular.open_file(path) as f:
        if sync:
            os.fsync(f.fileno())
        return hashlib.file_digest(f, "sha256").hexdigest()


@contextlib.contextmanager
def _no_stray_tracebacks() -> Iterator[None]:
    """When one of orbax's writers fails, the others report to an event loop that is gone."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        yield
    except Exception:
        time.sleep(0.5)  # until all have
        raise
    finally:
        sys.unraisablehook = hook


def _checkpointer():
    import orbax.checkpoint as ocp

    # Orbax reports each save, sharding advice, and errors that it raises as well.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    alone = {}
    if jax.process_count() > 1:  # each process reads for itself, and only the first one writes
        me = jax.process_index()
        alone = {"primary_host": me, "active_processes": {me}, "barrier_sync_key_prefix": f"{me}"}
    options = ocp.options.MultiprocessingOptions(**alone)
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=options)
    )
    return ocp.Checkpointer(handler, multiprocessing_options=options)


def _reason(error: Exception) -> str:
    """What the system says is wrong, or the first line of what orbax says, cut to fit a line."""
    code = re.search(r"\[os_error_code='(\d+)'\]", str(error))
    if code:
        return os.strerror(int(code[1]))
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]

"""Which files a page consists of, and where one may be written."""

import os
from pathlib import Path

from jaxnets.errors import UserError
from jaxnets.files import atomic

INDEX, RUNTIME, SAMPLES = "index.html", "onnxruntime", "samples"
SCRIPTS = ("page.js", "resize.js")
MODELS = {"float32": "model.onnx", "int8": "model.int8.onnx"}
"""The network's files by what they compute in; the first one is always there."""
_OURS = {INDEX, RUNTIME, SAMPLES, *SCRIPTS, *MODELS.values()}


def sample_file(index: int) -> str:
    """Where a sample lies."""
    return f"{SAMPLES}/{index + 1}.png"


def check_folder(folder: Path, force: bool) -> None:
    """Before the work: raises a UserError if a page cannot or must not be written there.

    Args:
        force: an older page may be replaced; nothing else ever is.
    """
    name, target = f"--page {folder}", folder.resolve()
    if not target.parent.is_dir():
        raise UserError(f"{name}: no folder {folder.parent}; make it first")
    atomic.check_folder(target.parent, name)
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise UserError(f"{name}: is there already, and no folder")
    if Path.cwd().is_relative_to(target):
        raise UserError(f"{name}: is the folder you are in; name another one")
    with atomic.writing(name):
        found = {path.name for path in folder.iterdir()}
    if found and not force:
        raise UserError(f"{name}: is there already; --force replaces a page")
    others = sorted(found - _OURS)
    if others:
        raise UserError(f"{name}: holds {others[0]}, which is of no page; name another folder")

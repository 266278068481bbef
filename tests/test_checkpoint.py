"""Checkpoints that were damaged, half-written, or are many; the disk they are on."""

import resource
import shutil
import subprocess
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.checkpoints import folder as one
from jaxnets.checkpoints import store as checkpoints
from jaxnets.checkpoints.folder import SUMS, fault, write_sums
from jaxnets.checkpoints.store import Checkpoints
from jaxnets.errors import UserError
from tests.small_disk import remount, small_disk

KEEP = 2


def tree(step: int) -> dict:
    """A state whose numbers tell the step."""
    return {
        "step": jnp.asarray(step, jnp.int32),
        "w": jnp.arange(600.0) + step,
        "half": jnp.full((3,), step, jnp.bfloat16),
    }


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A workdir with checkpoints 4 and 8, the best of which is 4."""
    workdir = tmp_path_factory.mktemp("template")
    store = Checkpoints(workdir, KEEP)
    store.save_best(4, tree(4), {"epoch": 1})
    store.save_last(4, tree(4), {"epoch": 1})
    store.save_last(8, tree(8), {"epoch": 2})
    return workdir


@pytest.fixture
def workdir(template, tmp_path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "x"))


def resume(workdir: Path) -> tuple[int | None, list[str]]:
    """The step that training would go on from, and what it says."""
    said: list[str] = []
    found = Checkpoints(workdir, KEEP).restore_last(tree(0), said.append)
    if found is None:
        return None, said
    state, meta = found
    step = int(state["step"])
    assert meta == {"epoch": step // 4}
    jax.tree.map(np.testing.assert_array_equal, state, tree(step))
    return step, said


def flip(path: Path) -> None:
    """Changes one byte in the middle; the size remains."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES = {"flipped": flip, "truncated": truncate, "emptied": lambda p: p.write_bytes(b""),
           "missing": Path.unlink}  # fmt: skip


def test_the_newest_is_gone_on_from(workdir):
    assert resume(workdir) == (8, [])


def test_nothing_to_go_on_from(tmp_path):
    assert resume(tmp_path / "new") == (None, [])


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_in_any_file_is_named_and_the_one_before_used(workdir, damage):
    newest = workdir / "checkpoints" / "8"
    whole = workdir / "whole"
    shutil.copytree(newest, whole)
    files = [p.relative_to(whole) for p in whole.rglob("*") if p.is_file()]
    assert len(files) > 8
    for name in files:
        shutil.rmtree(newest, ignore_errors=True)
        shutil.copytree(whole, newest)
        damage(newest / name)
        step, said = resume(workdir)
        assert step == 4, name
        (line,) = said
        assert line.startswith(f"warning: {newest}: ")
        assert "\n" not in line
        assert "the one before" in line
        if name.name != SUMS:
            assert str(name) in line


def test_an_empty_folder_is_named_and_the_one_before_used(workdir):
    (workdir / "checkpoints" / "12").mkdir()
    step, (line,) = resume(workdir)
    assert step == 8
    assert f"{workdir}/checkpoints/12: " in line


@pytest.mark.parametrize(
    "name", ["12.orbax-checkpoint-tmp", "12.new.orbax-checkpoint-tmp", "12.new"]
)
def test_a_half_written_folder_is_named_and_removed(workdir, name):
    shutil.copytree(workdir / "checkpoints" / "8", workdir / "checkpoints" / name)
    step, (line,) = resume(workdir)
    assert step == 8
    assert f"{workdir}/checkpoints/{name}: " in line
    assert not (workdir / "checkpoints" / name).exists()
    assert resume(workdir) == (8, [])


def test_no_whole_one_left(workdir):
    for file in workdir.glob("checkpoints/*/meta/metadata"):
        flip(file)
    with pytest.raises(UserError, match="none of the 2 checkpoints there is whole"):
        resume(workdir)
    assert checkpoints._steps(workdir / "checkpoints") == [4, 8]  # nothing is lost by asking


def test_the_damaged_step_is_written_again(workdir):
    flip(workdir / "checkpoints" / "8" / "meta" / "metadata")
    store = Checkpoints(workdir, KEEP)
    store.restore_last(tree(0), lambda _: None)
    assert [p.name for p in sorted((workdir / "checkpoints").iterdir())] == ["4", "8.damaged"]
    store.save_last(6, tree(6), {"epoch": 1})  # stopped on the way there
    assert checkpoints._steps(workdir / "checkpoints") == [4, 6]
    store.save_last(8, tree(8), {"epoch": 2})
    assert [p.name for p in sorted((workdir / "checkpoints").iterdir())] == ["6", "8"]
    assert resume(workdir) == (8, [])


def test_checkpoints_of_before_there_were_checksums(workdir):
    import orbax.checkpoint as ocp

    for step in (12, 16):
        with ocp.CheckpointManager(workdir / "checkpoints") as manager:
            args = ocp.args.Composite(
                state=ocp.args.StandardSave(tree(step)),
                meta=ocp.args.JsonSave({"epoch": step // 4}),
            )
            manager.save(step, args=args)
    assert not (workdir / "checkpoints" / "16" / SUMS).exists()
    assert resume(workdir) == (16, [])
    for file in (workdir / "checkpoints" / "16" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    step, (line,) = resume(workdir)
    assert step == 12
    assert "checkpoints/16: " in line


def test_another_network_is_no_damage(workdir):
    like = tree(0) | {"w": jnp.zeros(7)}
    with pytest.raises(
        UserError, match=r"checkpoints/8: .* another network .*\(600,\), not \(7,\)"
    ):
        Checkpoints(workdir, KEEP).restore_last(like, lambda _: None)
    with pytest.raises(UserError, match=r"checkpoints/8: .* cannot be read"):
        Checkpoints(workdir, KEEP).restore_last({"other": jnp.zeros(7)}, lambda _: None)
    assert checkpoints._steps(workdir / "checkpoints") == [4, 8]


@pytest.mark.parametrize(
    ("which", "name", "others"),
    [
        ("last", "checkpoints/8", "best or 4"),
        ("8", "checkpoints/8", "best or 4"),
        ("best", "best/4", "last or 4"),
        ("4", "checkpoints/4", "best or last"),
    ],
)
def test_who_asks_for_one_gets_that_or_none(workdir, which, name, others):
    flip(workdir / name / "meta" / "metadata")
    line = rf"{name}: the checkpoint is damaged .*meta/metadata.*; there is --checkpoint {others}$"
    with pytest.raises(UserError, match=line):
        checkpoints.read(workdir, which)


def test_the_only_one_says_so(tmp_path):
    Checkpoints(tmp_path, KEEP).save_best(4, tree(4), {})
    flip(tmp_path / "best" / "4" / "meta" / "metadata")
    with pytest.raises(UserError, match=r"damaged.*; it is the only one$"):
        checkpoints.read(tmp_path, "best")


@pytest.mark.parametrize("keep", [1, 3])
def test_so_many_are_kept(tmp_path, keep):
    store = Checkpoints(tmp_path, keep)
    for step in range(1, 6):
        store.save_last(step, tree(step), {})
    assert checkpoints._steps(tmp_path / "checkpoints") == list(range(1, 6))[-keep:]


def test_the_best_is_that_of_the_step_gone_back_to(tmp_path):
    """Whatever `checkpoints` may be gone back to, `best` holds the best until then."""
    store = Checkpoints(tmp_path, KEEP)
    for step, better in ((4, True), (8, True), (12, False), (16, True), (20, True)):
        if better:
            store.save_best(step, tree(step), {"epoch": step // 4})
        if step in (8, 16):
            store.save_last(step, tree(step), {"epoch": step // 4})
    assert checkpoints._steps(tmp_path / "checkpoints") == [8, 16]
    assert checkpoints._steps(tmp_path / "best") == [8, 16, 20]
    flip(tmp_path / "checkpoints" / "16" / "meta" / "metadata")
    assert resume(tmp_path)[0] == 8
    assert checkpoints.find(tmp_path, "best") == (tmp_path / "best", 8)


def test_a_best_one_stays_until_there_is_another(tmp_path):
    """Stopped in the first epoch, and killed after it; the next time it goes another way."""
    store = Checkpoints(tmp_path, KEEP)
    store.save_last(2, tree(2), {"epoch": 0})
    store.save_best(8, tree(8), {"epoch": 2})
    assert resume(tmp_path) == (2, [])
    assert checkpoints._steps(tmp_path / "best") == [8]
    store.save_best(4, tree(4), {"epoch": 1})
    assert checkpoints._steps(tmp_path / "best") == [4]


def test_sha256sum_agrees(workdir):
    folder = workdir / "checkpoints" / "8"
    check = ["sha256sum", "--check", "--quiet", SUMS]
    assert subprocess.run(check, cwd=folder).returncode == 0
    flip(folder / "state" / "_METADATA")
    assert subprocess.run(check, cwd=folder, capture_output=True).returncode == 1


def test_checksums_are_cheap(tmp_path):
    """Of 5 M parameters with momentum and slow weights."""
    noise = np.random.default_rng(0).integers(256, size=60_000_000, dtype=np.uint8)
    (tmp_path / "state").write_bytes(noise.tobytes())
    write_sums(tmp_path)
    seconds = []
    for _ in range(3):
        started = time.process_time()
        assert fault(tmp_path) is None
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.2


def assert_cannot_save(workdir: Path, reason: str) -> None:
    """A checkpoint of a megabyte; in one line, leaving nothing of it."""
    noise = np.random.default_rng(0).integers(2**31, size=250_000)  # cannot be compressed
    big = tree(12) | {f"w{i}": part for i, part in enumerate(np.split(noise.astype(np.int32), 10))}
    line = (
        rf"checkpoints/12: the checkpoint cannot be written \({reason}\); those before it are kept"
    )
    with pytest.raises(UserError, match=line):
        Checkpoints(workdir, KEEP).save_last(12, big, {"epoch": 3})
    assert [p.name for p in sorted((workdir / "checkpoints").iterdir())] == ["4", "8"]
    assert resume(workdir) == (8, [])


@pytest.mark.parametrize(
    "reason", ["No space left on device: .* bytes to write, .* are free", "No space left on device"]
)
def test_a_full_disk_leaves_those_before(template, tmp_path, monkeypatch, reason):
    """Seen before anything is written, and while it is."""
    if "are free" not in reason:
        monkeypatch.setattr("jaxnets.checkpoints.folder._check_space", lambda *_: None)
    with small_disk(tmp_path / "disk", size_kib=600) as disk:
        assert_cannot_save(Path(shutil.copytree(template, disk / "x")), reason)


@pytest.mark.filterwarnings("error")
def test_a_file_that_may_not_grow_leaves_those_before(workdir, capfd):
    """As on a full disk, but needs no disk of its own; orbax's own words are not seen."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        assert_cannot_save(workdir, "File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert capfd.readouterr() == ("", "")


def test_a_vanished_workdir_is_not_made_again(workdir):
    store = Checkpoints(workdir, KEEP)
    shutil.rmtree(workdir)
    with pytest.raises(UserError, match="No such file"):
        store.save_last(12, tree(12), {})
    assert not workdir.exists()


def test_reading_needs_no_writing(template, tmp_path):
    with small_disk(tmp_path / "disk", size_kib=600) as disk:
        shutil.copytree(template, disk / "x")
        remount(disk, "ro")
        state, _ = one.read(disk / "x" / "best" / "4", None)
        assert int(state["step"]) == 4

"""Memory that a process keeps: hardly a page is asked for twice, and what the user chose stays."""

import json
import os
import subprocess
import sys

import jax
import pytest

from jaxnets import config as configs
from jaxnets.devices import cpu_memory
from jaxnets.train.evaluator import Evaluator
from jaxnets.train.loop import train
from jaxnets.train.stepper import Stepper
from jaxnets.train.task import build
from tests.test_train import CONFIG

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc is Linux's")

STEPS = """
import json, resource
from jaxnets.devices import cpu_memory
from jaxnets.devices import runtime
runtime.setup(one_heap=True)
cpu_memory.keep(0)
import jax, jax.numpy as jnp
from jax import lax

def loss(kernel, images):
    out = lax.conv(images.transpose(0, 3, 1, 2), kernel, (1, 1), "SAME")
    return (out**2).mean()

kernel, images = jnp.ones((16, 16, 3, 3)), jnp.ones((512, 32, 32, 16))
gradient = jax.jit(jax.grad(loss))

def faults(calls):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(calls):
        gradient(kernel, images).block_until_ready()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / calls

faults(25)  # until the heap is large enough, wherever its pieces fall
print(json.dumps([cpu_memory.kept(), faults(5)]))
"""


def unchosen() -> dict[str, str]:
    """The environment without what says how memory is allocated, and where."""
    names = ("GLIBC_TUNABLES", "LD_PRELOAD", "JAX_PLATFORMS")
    return {k: v for k, v in os.environ.items() if k not in names and not k.startswith("MALLOC_")}


def steps(**env: str) -> tuple[bool, float]:
    """Whether a process kept its memory, and the page faults of a gradient there."""
    done = subprocess.run(
        [sys.executable, "-c", STEPS],
        env={**unchosen(), "JAX_PLATFORMS": "cpu", **env},
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(json.loads(done.stdout))


@linux
def test_a_step_asks_for_few_pages():
    kept, faults = steps()
    chosen, many = steps(MALLOC_ARENA_TEST="8")  # glibc's own default, but said by the user
    assert kept
    assert not chosen
    assert faults < many / 2, (faults, many)


FREED = """
import ctypes
from pathlib import Path
from jaxnets.devices import cpu_memory

def resident():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) >> 10

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
cpu_memory.one_heap()
cpu_memory.keep(0)
before = resident()
pieces = [ctypes.c_void_p(libc.malloc(1 << 16)) for _ in range(4000)]
for piece in pieces:
    ctypes.memset(piece, 1, 1 << 16)
for piece in pieces[:-1]:  # the last one keeps the top of the heap where it is
    libc.free(piece)
print(resident() - before, cpu_memory.give_back(), resident() - before)
"""


@linux
def test_what_is_free_is_given_back_where_it_is_kept():
    env = {**unchosen(), "JAX_PLATFORMS": "cpu"}
    run = [sys.executable, "-c", FREED]
    done = subprocess.run(run, env=env, capture_output=True, text=True, check=True)
    held, given, left = done.stdout.split()
    assert given == "True"
    assert int(held) > 200  # MB
    assert int(left) < 50


def test_a_training_gives_back_what_compiling_and_evaluating_left(monkeypatch, tmp_path):
    said = []
    called = Evaluator.__call__
    monkeypatch.setattr(cpu_memory, "give_back", lambda: said.append("give back"))
    monkeypatch.setattr(cpu_memory, "keep", lambda temporaries: said.append("keep"))
    monkeypatch.setattr(
        Evaluator, "__call__", lambda *args: said.append("evaluate") or called(*args)
    )
    config = configs.read(CONFIG, ["--config.num_epochs=2"])
    train(config, build(config), tmp_path, quiet=True)
    epoch = ["give back", "evaluate", "give back"]
    assert said == ["give back", "keep", "give back", *epoch, *epoch]


@pytest.fixture
def asked(monkeypatch):
    """The settings that glibc was asked for, in a process where nothing is chosen yet."""
    calls = []
    for name in os.environ.keys() - unchosen().keys():
        monkeypatch.delenv(name)
    for name in ("_one_heap", "_kept"):
        monkeypatch.setattr(cpu_memory, name, False)
    monkeypatch.setattr(cpu_memory, "find_spec", lambda name: None)
    monkeypatch.setattr(cpu_memory, "room", lambda: 4000)
    monkeypatch.setattr(cpu_memory, "_mallopt", lambda: lambda *a: calls.append(a) or 1)
    monkeypatch.setattr(cpu_memory, "_trim", lambda: lambda pad: calls.append(("trim", pad)) or 1)
    return calls


def test_each_setting_is_asked_for_once(asked):
    for _ in range(2):
        assert cpu_memory.one_heap()
    assert not cpu_memory.kept()
    for _ in range(2):
        assert cpu_memory.keep(1000)
    assert cpu_memory.kept()
    assert asked == [*cpu_memory.ONE_HEAP, *cpu_memory.NEVER_GIVEN_BACK]


def test_nothing_is_given_back_without_one_heap(asked):
    assert not cpu_memory.give_back()
    assert not asked
    assert cpu_memory.one_heap()
    assert cpu_memory.give_back()
    assert asked == [*cpu_memory.ONE_HEAP, ("trim", 0)]


def test_without_ample_room_memory_is_given_back(asked):
    assert cpu_memory.one_heap()
    assert not cpu_memory.keep(1001)
    assert asked == [*cpu_memory.ONE_HEAP]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MALLOC_MMAP_MAX_", "65536"),
        ("GLIBC_TUNABLES", "glibc.rtld.nns=2:glibc.malloc.hugetlb=1"),
        ("LD_PRELOAD", "libjemalloc.so"),
        ("JAX_PLATFORMS", "cuda,cpu"),
    ],
)
def test_what_the_user_chose_stays(asked, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert not cpu_memory.one_heap()
    assert not cpu_memory.keep(0)
    assert not asked


@pytest.mark.parametrize("package", ["jax_plugins", "libtpu"])
def test_beside_an_accelerator_nothing_is_asked(asked, monkeypatch, package):
    monkeypatch.setattr(cpu_memory, "find_spec", lambda name: name == package or None)
    assert not cpu_memory.one_heap()
    assert not asked
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert cpu_memory.one_heap()


def test_without_glibc_nothing_happens(asked, monkeypatch):
    monkeypatch.setattr(cpu_memory, "_mallopt", lambda: None)
    assert not cpu_memory.one_heap()
    assert not cpu_memory.keep(0)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a CPU's memory")
def test_a_stepper_tells_what_its_steps_take(monkeypatch):
    said = []
    monkeypatch.setattr(cpu_memory, "keep", said.append)
    for batch in (40, 400):
        config = configs.read(CONFIG, [f"--config.batch_size={batch}"])
        run = build(config)
        Stepper(run.task, run.data, run.state)
    small, large = said
    assert 2 * small < large < 1 << 30


@linux
@pytest.mark.parametrize(
    ("file", "text", "room"),
    [
        ("memory.max", "max\n", 3 << 20),
        ("memory.max", "2097152\n", 2 << 20),
        ("memory/memory.limit_in_bytes", "1048576\n", 1 << 20),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", 3 << 20),
    ],
)
def test_the_room_is_what_system_and_container_leave(tmp_path, file, text, room):
    assert cpu_memory.room(tmp_path) == 0
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    3072 kB\n")
    assert cpu_memory.room(tmp_path) == 3 << 20
    limit = tmp_path / "sys/fs/cgroup" / file
    limit.parent.mkdir(parents=True)
    limit.write_text(text)
    assert cpu_memory.room(tmp_path) == room

"""Memory that a process keeps between the steps of a training run on a CPU.

XLA takes the temporaries of a step from malloc in one piece and frees them after it.  glibc maps a
piece of that size anew each time, and the kernel clears it page by page: 158,000 page faults in
every step of the 16-channel SE-ResNet at batch 128, three tenths of its time.  From a single heap
that is never given back there are none.  The price is memory: steps overlap, and what falls between
them takes the free places, so that up to three times the temporaries stay.

What compiling leaves free in that heap would stay with it: 1.1 of 2.2 GB of cifar100_v3 at batch
32, whose step has temporaries of 125 MB.  And evaluation finds no room between the pieces of the
steps.  So `give_back` gives it to the system after compiling, and before and after evaluating.
"""

import ctypes
import os
import sys
from importlib.util import find_spec
from pathlib import Path

SHARE = 4  # there must be room for so many times a step's temporaries

# Of glibc's <malloc.h>.
ARENA_MAX, MMAP_MAX, TRIM_THRESHOLD = -8, -4, -1
ONE_HEAP = ((ARENA_MAX, 1),)
NEVER_GIVEN_BACK = ((MMAP_MAX, 0), (TRIM_THRESHOLD, -1))

_one_heap = _kept = False


def one_heap() -> bool:
    """All threads that begin from now on share one heap; `keep` has no effect without it.

    False, and nothing changes, where the user has chosen how memory is allocated, beside an
    accelerator, and without glibc.
    """
    global _one_heap
    if not _one_heap and not _chosen() and not _accelerated():
        _one_heap = _set(ONE_HEAP)
    return _one_heap


def keep(temporaries: int) -> bool:
    """Keeps what is freed from now on, if there is ample room for a step's temporaries (bytes)."""
    global _kept
    if not _kept and _one_heap and SHARE * temporaries <= room():
        _kept = _set(NEVER_GIVEN_BACK)
    return _kept


def give_back() -> bool:
    """Gives all that is free now to the system, also where it is kept from now on.

    False, and nothing changes, without `one_heap`.
    """
    trim = _trim() if _one_heap else None
    return trim is not None and bool(trim(0))


def kept() -> bool:
    """Whether this process keeps what is freed."""
    return _kept


def room(root: Path = Path("/")) -> int:
    """Bytes that the system, and the control group of a container, leave to this process."""
    found = [0]
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            found = [1024 * int(line.split()[1])]
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _text(root / "sys/fs/cgroup" / limit).strip()
        found += [int(text)] if text.isdecimal() else []
    return min(found)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _chosen() -> bool:
    """Whether the environment says how memory is to be allocated."""
    return (
        any(name.startswith("MALLOC_") for name in os.environ)
        or "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "")
        or "LD_PRELOAD" in os.environ
    )


def _accelerated() -> bool:
    """Whether jax may find more than a CPU here; asked of the packages, before any device is."""
    if platforms := os.environ.get("JAX_PLATFORMS"):
        return platforms != "cpu"
    return any(map(find_spec, ("jax_plugins", "libtpu")))


def _set(settings: tuple[tuple[int, int], ...]) -> bool:
    mallopt = _mallopt()
    return mallopt is not None and all(mallopt(*setting) for setting in settings)


def _mallopt():
    return _of_glibc("mallopt")


def _trim():
    return _of_glibc("malloc_trim")


def _of_glibc(name: str):
    """One of its functions; None where there is another library, such as musl."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)

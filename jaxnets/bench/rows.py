"""Every case measured, in a process of its own where there are several.

An ordinary module: a new process finds its functions by the module's name, and "__main__" is
another there.  It imports neither jax nor torch, so that the first process holds no device.
"""

import functools
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from jaxnets.bench.case import Case, Effort
from jaxnets.errors import UserError


def measured(
    found: Sequence[Case], effort: Effort, against_torch: bool
) -> Iterator[tuple[Case, tuple[dict, dict] | str]]:
    """Every case with its machine and row, or with why there is none.

    Several go to a process each: none finds the memory or the programs of another, and one that the
    system kills takes no other with it.

    Raises:
        UserError: of the first case; of a later one it is why there is no row.
    """
    if len(found) == 1:
        yield found[0], measure_here(found[0], effort, against_torch)
        return
    for case in found:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            try:
                outcome = pool.submit(measure_here, case, effort, against_torch).result()
            except UserError as e:
                if case is found[0]:
                    raise
                outcome = str(e)
            except Exception as e:
                outcome = f"{type(e).__name__}: {' '.join(str(e).split())[:300]}"
        yield case, outcome


def measure_here(case: Case, effort: Effort, against_torch: bool) -> tuple[dict, dict]:
    """The case's machine and row, measured in this process."""
    from jaxnets.bench.measure import measure

    return measure(case, effort, against_torch, functools.partial(print, flush=True))

"""Process-wide settings of a command: precision, speed, compilation cache, quiet libraries."""

import logging
import warnings

from jaxnets.devices import cpu_flags, cpu_memory
from jaxnets.errors import UserError
from jaxnets.files.user_cache import user_cache


def setup(dtype: str = "float32", *, one_heap: bool = False) -> None:
    """Before the first array: 64-bit types where `dtype` needs them, and the compilation cache.

    On a CPU also the flag of `cpu_flags`, which changes the arithmetic of the whole process.

    `one_heap` is for long training: on a CPU steps become faster and compilation slower.

    The cache lies in $JAX_COMPILATION_CACHE_DIR, or in ~/.cache/jaxnets/xla.

    Raises:
        UserError: JAX_DISABLE_JIT is set.
    """
    cpu_flags.apply()
    if one_heap:
        cpu_memory.one_heap()
    import jax

    if jax.config.jax_disable_jit:
        raise UserError("JAX_DISABLE_JIT is set: programs are compiled here; unset it")
    if dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    if not jax.config.jax_compilation_cache_dir:
        cache = user_cache()
        jax.config.update("jax_compilation_cache_dir", cache and str(cache / "xla"))
    # Also the small programs: those of the initial weights take seconds in all.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # Donation is not possible on every backend; where it is not, nothing is lost but memory.
    warnings.filterwarnings("ignore", message="Some donated buffers were not usable")
    logging.getLogger("jax").setLevel(logging.ERROR)

"""Starts `jaxnets.train` in several processes on this machine, for tests of training together."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

CONFIG = str(Path(__file__).parent / "tiny_config.py")
# 1438 images in batches of 397, the last of 247: neither 2 nor 4 processes divide any of them.
KEYS = (
    *("--config.dtype=float64", "--config.batch_size=397", "--config.num_epochs=4"),
    # Averages, whose statistics are recomputed over the parts, and images that are mixed across
    # them.
    *("--config.optim.ema.decay=.9", "--config.eval_weights=ema"),
    *("--config.augment.mix.name=either", "--config.augment.mix.per_image=True"),
)
STEPS = 4  # an epoch
# The command, which also says how many of the training images this process holds.
CODE = """
import sys
from jaxnets import cli
from jaxnets.train import __main__ as train
from jaxnets.train import loop
from jaxnets.devices import rendezvous
rendezvous.CONNECT_SECONDS = int(sys.argv.pop(1))
begin = loop.train
def told(config, run, workdir):
    images = run.data.train_images
    parts = getattr(images, "addressable_shards", None)
    rows = len(images) if parts is None else sum(len(part.data) for part in parts)
    print("holds", rows, flush=True)
    return begin(config, run, workdir)
loop.train = told
cli.run(train.main)
"""


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    out: str
    err: str


class Process:
    """One of them; `lines` grows as it speaks."""

    def __init__(
        self,
        args: list[str],
        devices: int = 1,
        connect_seconds: int = 120,
        env: Mapping[str, str] | None = None,
    ):
        flags = f"--xla_force_host_platform_device_count={devices}"
        self._process = subprocess.Popen(
            [sys.executable, "-c", CODE, str(connect_seconds), *args],
            env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines, self._errors = [], []
        pipes = (self.lines, self._process.stdout), (self._errors, self._process.stderr)
        self._readers = [threading.Thread(target=x.extend, args=(pipe,)) for x, pipe in pipes]
        for reader in self._readers:
            reader.daemon = True
            reader.start()

    def wait_for_line(self, start: str, seconds: float = 240) -> None:
        """Until it has printed a line that begins so, spaces aside."""
        until = time.monotonic() + seconds
        while not any(line.strip().startswith(start) for line in list(self.lines)):
            assert self._process.poll() is None, "".join(self._errors)[-2000:]
            assert time.monotonic() < until, self.lines
            time.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float = 240) -> Ended:
        try:
            code = self._process.wait(seconds)
        finally:
            self._process.kill()
        for reader in self._readers:
            reader.join(10)
        self._process.stdout.close()
        self._process.stderr.close()
        return Ended(code, "".join(self.lines), "".join(self._errors))


def free_port(ports: range = range(1)) -> int:
    """One on the loopback, in `ports` if given."""
    for port in ports:
        try:
            with socket.create_server(("127.0.0.1", port)) as server:
                return server.getsockname()[1]
        except OSError:
            pass
    raise AssertionError(f"no port is free in {ports}")


def command(workdir: Path, *args: str) -> list[str]:
    """The arguments of the command, up to those that say which process it is."""
    return ["--config", CONFIG, "--workdir", str(workdir), *KEYS, *args]


def start(count: int, workdir: Path, *args: str, devices: int = 1) -> list[Process]:
    """`count` processes of `devices` each that train together."""
    together = ("--distributed", "--coordinator", f"127.0.0.1:{free_port()}")
    shared = [*command(workdir, *args), *together, "--num-processes", str(count), "--process-id"]
    return [Process([*shared, str(i)], devices) for i in range(count)]


def start_in_slurm(count: int, workdir: Path) -> list[Process]:
    """The same as SLURM starts them: by variables alone."""
    port = free_port(range(61440, 65536))  # where jax puts the coordinator of job 0, 1, ...
    env = {
        "SLURM_JOB_ID": str(port - 61440),
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": str(count),
        "SLURM_LOCALID": "0",
        "JAX_COORDINATOR_BIND_ADDRESS": f"127.0.0.1:{port}",
    }
    return [
        Process([*command(workdir), "--distributed"], env={**env, "SLURM_PROCID": str(i)})
        for i in range(count)
    ]

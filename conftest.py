"""Shared by all tests: what is left behind is removed, and what is random has a seed.

Property tests and fuzzing draw other examples in every run, from a seed that its end names.
"""

import secrets
import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, settings

from jaxnets.devices import cpu_memory, runtime

runtime.setup()  # before any device is asked for: the tests compute as the commands do

# Hypothesis would draw the same ones for ever where CI is set.
settings.register_profile(
    "varied",
    derandomize=False,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[*HealthCheck],
)
settings.load_profile("varied")


@pytest.hookimpl(tryfirst=True)  # before hypothesis reads it
def pytest_configure(config):
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = secrets.randbelow(2**32)


def pytest_terminal_summary(terminalreporter):
    seed = terminalreporter.config.option.hypothesis_seed
    terminalreporter.write_line(f"random examples: repeat them with --hypothesis-seed={seed}")


@pytest.fixture(scope="session", autouse=True)
def memory_given_back():
    """What one command asks of malloc would hold for every test after it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_memory, "_mallopt", lambda: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory):
    """What libraries leave in the temporary folder, as TFDS does, is removed at the end."""
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", None)
        yield folder
    shutil.rmtree(folder, ignore_errors=True)

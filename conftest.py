"""Property tests and fuzzing draw other examples in every run, from a seed that its end names."""

import secrets

import pytest
from hypothesis import HealthCheck, settings

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

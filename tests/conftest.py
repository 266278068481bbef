"""Shared by the tests of jaxnets alone."""

import sys
from typing import NamedTuple

import pytest

from jaxnets import cli, signals
from tests.commands import main_of


class Result(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys, monkeypatch):
    """Runs `python -m MODULE ARGS...` within this process."""

    def call(module: str, *args: object) -> Result:
        monkeypatch.setattr(sys, "argv", [module, *map(str, args)])
        monkeypatch.setattr(signals, "listen", lambda: None)  # it would outlast the test
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.run(main_of(module))
        out, err = capsys.readouterr()
        return Result(stop.value.code, out, err)

    return call


@pytest.fixture
def refused(command):
    """Runs a command that must fail as a user's mistake: one line, exit code 2."""

    def call(module: str, *args: object) -> str:
        code, _, err = command(module, *args)
        assert code == 2
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        return err

    return call

"""Where data sets are looked for, and what is said when there are none."""

import subprocess
import sys

import data_fakes as fakes
import pytest

from jaxnets.data import DATASETS, load_dataset, tfds_source
from jaxnets.data.cifar import CIFAR10
from jaxnets.errors import UserError


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(tfds_source, "_unreachable", lambda url: f"{url} cannot be reached (test)")


def test_data_dir_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JAXNETS_DATA", raising=False)
    for seed, folder in enumerate(("data", "elsewhere")):
        data = fakes.fake(CIFAR10, seed)
        fakes.write_folder(tmp_path / folder, CIFAR10.python.folder, fakes.python_files(data))
        data.check(load_dataset("cifar10", cache=False))
        monkeypatch.setenv("JAXNETS_DATA", "elsewhere")


@pytest.mark.parametrize("exists", [False, True])
def test_no_data_and_no_network(exists, tmp_path):
    root = tmp_path / "nothing"
    if exists:
        root.mkdir()
    with pytest.raises(UserError) as error:
        load_dataset("cifar100", root)
    for word in (
        str(root),
        "cifar-100-python",
        "cifar-100-python.tar.gz",
        "cifar-100-binary",
        "cifar-100-binary.tar.gz",
        "cannot be reached",
        "TFDS",
        "network",
        "--config.data.dir",
        "$JAXNETS_DATA",
    ):
        assert word in str(error.value)
    assert "\n" not in str(error.value)
    assert root.exists() == exists


def test_a_folder_that_cannot_be_looked_into():
    with pytest.raises(UserError, match=r"xxx: cannot be read \(.*name another folder"):
        load_dataset("cifar10", "x" * 1000)


def test_unknown_name():
    with pytest.raises(UserError, match="did you mean 'cifar10'"):
        load_dataset("cifar_10")
    assert {"cifar10", "cifar100", "digits"} <= set(DATASETS)


def test_import_needs_numpy_alone():
    heavy = ("jax", "torch", "tensorflow_datasets", "sklearn", "PIL", "requests")
    code = (
        f"import sys, jaxnets.data; sys.exit(str([m for m in {heavy} if m in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode in (0, 1)
    assert done.stderr.strip() == ""

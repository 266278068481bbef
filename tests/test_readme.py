"""Every command and every figure of the README, run and compared: documents cannot rot."""

import importlib
import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]
# What makes a training fit into a test.
SMALL = {
    "configs/quickstart.py": ["--config.batch_size=400"],
    "configs/se_resnet": ["--config.model.num_blocks=1,1", "--config.batch_size=400"],
}
ALWAYS = [
    "--config.data.name=digits",
    "--config.num_epochs=1",
    "--config.model.num_channels=16",
    "--config.model.conv_kernel_sizes=3,3",
    "--config.model.shortcut_kernel_sizes=1,1",
]


@pytest.fixture(autouse=True)
def float32():
    """Undoes what a command in float64 sets for its process."""
    before = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder that looks like the repository's root; runs go there."""
    folder = tmp_path_factory.mktemp("root")
    (folder / "configs").symlink_to(ROOT / "configs")
    return folder


def run(command: str, folder: Path, monkeypatch, capsys) -> str:
    """Runs `python -m MODULE ...` of the README in this process; trainings are made small."""
    words = shlex.split(command)
    assert words[:2] == ["python", "-m"]
    module, args = words[2], words[3:]
    recipe = next((a for a in args if a.startswith("configs/")), None)
    if recipe is not None and "--print_config" not in args:
        args += next(small for prefix, small in SMALL.items() if recipe.startswith(prefix))
        quick = recipe.startswith("configs/quickstart")
        args += ["--config.num_epochs=1"] if quick else ALWAYS
    if module == "jaxnets.parity" and recipe is not None:
        args += ["--steps=3", "--config.batch_size=16"]
    monkeypatch.chdir(folder)
    is_package = module in ("jaxnets.models", "jaxnets.parity", "jaxnets.port")
    name = f"{module}.__main__" if is_package else module
    code = importlib.import_module(name).main(args)
    assert code in (0, None)
    return capsys.readouterr().out


PYTHON = [c for c in COMMANDS if c.startswith("python -m") and "pytest" not in c]


# Two recipes share a default workdir with others here; they come in the README's order.
@pytest.mark.parametrize("command", PYTHON)
def test_commands_of_the_readme(command, folder, monkeypatch, capsys):
    if any(word in command for word in ("torch_ref", "parity", ".pt")):
        pytest.importorskip("torch")
    workdir = re.search(r"--workdir (\S+)", command)
    if "evaluate" in command and not (folder / workdir[1]).exists():
        train = f"python -m jaxnets.train --config configs/quickstart.py --workdir {workdir[1]}"
        run(train, folder, monkeypatch, capsys)
    assert run(command, folder, monkeypatch, capsys)


def test_the_other_commands():
    others = [c for c in COMMANDS if c not in PYTHON]
    assert others == ["make demo", "make test", "python -m pytest parity_tests"]
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert "parity_tests" in options["testpaths"]
    shown = subprocess.run(
        ["make", "-n", "demo", "test"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "-m jaxnets.train --config configs/quickstart.py --workdir runs/quickstart" in shown
    assert "-m jaxnets.evaluate --workdir runs/quickstart" in shown
    assert "-m pytest" in shown


def test_the_demo_reaches_what_it_promises(tmp_path, command):
    """What `make demo` runs, as it stands."""
    workdir = tmp_path / "quickstart"
    args = ("--config", ROOT / "configs" / "quickstart.py", "--workdir", workdir)
    assert command("jaxnets.train", *args).code == 0
    assert command("jaxnets.evaluate", "--workdir", workdir).code == 0
    assert json.loads((workdir / "report" / "metrics.json").read_text())["accuracy"] >= 0.97


def test_python_of_the_readme(tmp_path, monkeypatch, capsys):
    torch = pytest.importorskip("torch")
    import jaxnets
    from jaxnets.port import to_state_dict

    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    model = jaxnets.create_model("se_resnet", num_channels=16)
    tensors = {k: torch.tensor(v) for k, v in to_state_dict(model).items()}
    torch.save(tensors, tmp_path / "se_resnet.pth")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code, names)
    assert names["logits"].shape == (1, 10)
    assert "se_resnet" in capsys.readouterr().out


def test_table_of_models(command):
    rows = json.loads(command("jaxnets.models.__main__", "--json").out)
    for row in rows:
        figures = f"{row['parameters']:,} | {row['macs'] / 1e6:,.1f} M | {row['entries']}"
        assert f"| `{row['name']}` | {figures} |" in README


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)]+)\)", README + (ROOT / "RESULTS.md").read_text()):
        assert (ROOT / target).exists(), target

"""Every command of README and docs/, run: documents cannot rot. What they show is compared."""

import importlib.metadata
import itertools
import json
import operator
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
import pytest
from PIL import Image

import jaxnets
from jaxnets.models import create_model
from jaxnets.port import to_state_dict
from jaxnets.runs import children
from tests import sweep_fakes, web_runtime
from tests.commands import main_of
from tests.test_architecture import RANK

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
# The README first: in this order later commands find what earlier ones wrote.
DOCS = (
    "data", "training", "weights", "beyond", "deploy", "porting", "parity", "performance", "sweeps",
    "development",
)  # fmt: skip
GUIDES = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in DOCS)]
MARKDOWN = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language; lines that end in a backslash are joined to the next."""
    found = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [re.sub(r" \\\n +", " ", block) for block in found]


# Each once, wherever it stands.
COMMANDS = [
    *dict.fromkeys(
        line
        for path in GUIDES
        for block in blocks(path.read_text(), "sh")
        for line in block.splitlines()
    )
]
# What a block of one command prints, as the block after it shows it.
SHOWN = {
    command.strip(): output
    for path in GUIDES
    for command, output in re.findall(
        r"^```sh\n([^\n]*)\n```\n\n```text\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE
    )
}
# What makes a training fit into a test.
SMALL = {
    "configs/quickstart.py": ["--config.batch_size=400"],
    "configs/folder.py": ["--config.model.num_channels=16", "--config.batch_size=4"],
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
    for name in ("configs", "results"):  # the latter only to be listed
        (folder / name).symlink_to(ROOT / name)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 40, 40, 3), np.uint8)
    for i, image in enumerate(pixels):
        path = folder / "my_images" / ("train", "test")[i % 2] / ("cat", "dog")[i // 2 % 2]
        path.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path / f"{i}.png")
        path = folder / "my_classes" / path.name
        path.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path / f"{i}.png")
    Image.fromarray(pixels[0]).save(folder / "photo.png")
    return folder


def run(command: str, folder: Path, monkeypatch, capsys) -> str:
    """Runs `python -m MODULE ...` of the README in this process; trainings are made small."""
    words = shlex.split(command)
    assert words[:2] == ["python", "-m"]
    module, args = words[2], words[3:]
    recipe = next((a for a in args if a.startswith("configs/")), None)
    if recipe is not None and "--print-config" not in args:
        args += next(small for prefix, small in SMALL.items() if recipe.startswith(prefix))
        quick = recipe.startswith(("configs/quickstart", "configs/folder"))
        args += ["--config.num_epochs=1"] if quick else ALWAYS
    if module == "jaxnets.parity" and recipe is not None:
        args = [*replaced(args, {"--steps": "3"}), "--config.batch_size=16"]
    if module == "jaxnets.sweep":  # its trainings have tests of their own
        monkeypatch.setattr(children, "train", sweep_fakes.train)
        args = replaced(args, {"--trials": "2"})
    if "--page" in args:
        web_runtime.stand_in(folder, monkeypatch)
    args = replaced(args, {"--seeds": "1"})
    if module == "jaxnets.bench":
        return run_bench(args, folder)
    monkeypatch.chdir(folder)
    code = main_of(module)(args)
    assert code in (0, None)
    return capsys.readouterr().out


# The Python of all documents, a block each.
BLOCKS = [
    pytest.param(code, id=f"{path.name}-{i}")
    for path in MARKDOWN
    for i, code in enumerate(blocks(path.read_text(), "python"))
]


def replaced(args: list[str], values: dict[str, str]) -> list[str]:
    """The arguments with other values for some flags."""
    return [values.get(before, arg) for before, arg in itertools.pairwise(["", *args])]


def run_bench(args: list[str], folder: Path) -> str:
    """As users do, from the command line: each row is a process that must find its functions."""
    args = replaced(args, {"--batch": "2,4", "--dtype": "float32"})
    quick = ["--repeats=1", "--seconds=.01", "--compile-limit=1"]
    narrow = [*ALWAYS, *SMALL["configs/se_resnet"]]
    python = [sys.executable, "-m", "jaxnets.bench", *args, *narrow, *quick]
    done = subprocess.run(python, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads((folder / "bench.json").read_text())["rows"]
    assert [row["batch"] for row in rows] == [2, 4]
    assert all(row["train_images_per_second"] > 0 and row["speedup"] > 0 for row in rows)
    return done.stdout


def assert_shown(command: str, printed: str) -> None:
    """What a document shows of a command's output is printed by it, but for the numbers.

    Here trainings are shorter, and other epochs are the best (*).  "..." stands for any lines, and
    at the end of a line for the rest of it.
    """
    lines = outline(printed)
    for wanted in outline(SHOWN[command]):
        start = wanted.removesuffix("...").strip()
        assert any(line.startswith(start) if start != wanted else line == wanted for line in lines)


def outline(text: str) -> list[str]:
    """The lines with a # for each number, one blank between words."""
    return [
        " ".join(re.sub(r"\d[\d.,:]*(e-\d+)?", "#", line).replace("*", "").split())
        for line in text.splitlines()
    ]


TOGETHER = [c for c in COMMANDS if "--distributed" in c]
PYTHON = [
    c for c in COMMANDS if c.startswith("python -m") and "pytest" not in c and c not in TOGETHER
]


# Two recipes share a default workdir with others here; they come in the documents' order.
@pytest.mark.parametrize("command", PYTHON, ids=PYTHON)
def test_commands_of_the_documents(command, folder, monkeypatch, capsys):
    if any(word in command for word in ("torch", "parity", ".pt")):
        pytest.importorskip("torch")
    if ".train" not in command:  # what reads a run finds one there
        words = shlex.split(command.partition("--output")[0])
        for word in words[:4] if ".port" in command else words:
            if re.fullmatch(r"runs/\w+", word) and not (folder / word).exists():
                copy_a_run(folder, word, monkeypatch, capsys)
    if "--show sweeps/" in command:
        workdir = shlex.split(command)[shlex.split(command).index("--show") + 1]
        if not (folder / workdir).exists():
            run(next(c for c in PYTHON if f"--workdir {workdir}" in c), folder, monkeypatch, capsys)
    if "digits.npy" in command:
        digits = next(c for c in COMMANDS if c.startswith("python -c"))
        monkeypatch.chdir(folder)
        exec(shlex.split(digits)[2], {})
    printed = run(command, folder, monkeypatch, capsys)
    assert printed
    if command in SHOWN:
        assert_shown(command, printed)


def copy_a_run(folder: Path, workdir: str, monkeypatch, capsys) -> None:
    if not (folder / "runs/quickstart").exists():
        train = "python -m jaxnets.train --config configs/quickstart.py --workdir runs/quickstart"
        run(train, folder, monkeypatch, capsys)
    if workdir != "runs/quickstart":
        shutil.copytree(folder / "runs/quickstart", folder / workdir)


@pytest.mark.slow
def test_processes_of_the_documents(folder):
    """tests/test_distributed.py looks closer."""
    port = socket.create_server(("127.0.0.1", 0))
    free = str(port.getsockname()[1])
    port.close()
    small = [*SMALL["configs/quickstart.py"], "--config.num_epochs=1"]
    started = [
        subprocess.Popen([sys.executable, *words[1:], *small], cwd=folder, stdout=subprocess.PIPE)
        for words in (shlex.split(c.removesuffix("&").replace("12345", free)) for c in TOGETHER)
    ]
    outputs = [process.communicate(timeout=200)[0].decode() for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert ["done: 1 epochs" in out for out in outputs] == [False, True]


def test_the_other_commands():
    others = [c for c in COMMANDS if c not in PYTHON + TOGETHER and "python -c" not in c]
    assert [c for c in others if not c.startswith("pip install ")] == [
        "make demo",
        "make test",
        f"npm pack onnxruntime-web@{web_runtime.runtime.VERSION}",
        "python -m pytest parity_tests",
    ]
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert "parity_tests" in options["testpaths"]
    shown = subprocess.run(
        ["make", "-n", "demo", "test"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "-m jaxnets.train --config configs/quickstart.py --workdir runs/quickstart" in shown
    assert "-m jaxnets.evaluate --workdir runs/quickstart" in shown
    assert "-m pytest" in shown


def test_what_pip_is_told_to_install_exists():
    """Without a connection: the project's own extras, and jax's."""
    installed = [c.removeprefix("pip install ") for c in COMMANDS if c.startswith("pip install ")]
    assert installed[0] == "."
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {
        "jax": importlib.metadata.metadata("jax").get_all("Provides-Extra"),
        ".": project["optional-dependencies"],
    }
    named = re.findall(r"\"([.\w]+)\[(\w+)\]\"", README)
    assert {("jax", "cuda12"), ("jax", "cuda13"), (".", "torch")} <= {*named}
    for package, extra in named:
        assert extra in extras[package]


def test_setting_up_says_what_it_does(tmp_path):
    setup = subprocess.run(
        ["make", "-n", "--no-print-directory", f"VENV={tmp_path}", "PYTHON=python3", "setup"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    steps = [line for line in setup.splitlines() if not line.startswith(("test -n", "touch"))]
    assert [line.startswith("echo ") for line in steps] == [True, False] * 3 + [True]


def test_the_demo_reaches_what_it_promises(tmp_path, command):
    """What `make demo` runs, as it stands."""
    workdir = tmp_path / "quickstart"
    args = ("--config", ROOT / "configs" / "quickstart.py", "--workdir", workdir)
    assert command("jaxnets.train", *args).code == 0
    assert command("jaxnets.evaluate", "--workdir", workdir).code == 0
    assert json.loads((workdir / "report" / "metrics.json").read_text())["accuracy"] >= 0.97


@pytest.fixture
def just_imported(monkeypatch):
    """`jaxnets` as a new process has it: without the parts that other tests have imported."""
    for name, value in list(vars(jaxnets).items()):
        if isinstance(value, ModuleType) and value.__name__.startswith("jaxnets."):
            monkeypatch.delattr(jaxnets, name)


@pytest.mark.parametrize("code", BLOCKS)
def test_python_of_the_documents(code, just_imported, folder, monkeypatch, capsys):
    torch = pytest.importorskip("torch")
    copy_a_run(folder, "runs/quickstart", monkeypatch, capsys)
    model = create_model("se_resnet", num_channels=16)
    tensors = {k: torch.tensor(v) for k, v in to_state_dict(model).items()}
    torch.save(tensors, folder / "se_resnet.pth")
    monkeypatch.chdir(folder)
    names: dict = {}
    exec(code, names)
    if "logits" in names:  # what the comments beside them say
        assert names["logits"].shape == (2, 10)
        assert "se_resnet" in capsys.readouterr().out
    if "net" in names:
        assert names["images"].shape == (359, 32, 32, 3)
        assert capsys.readouterr().out.startswith("['")
    if "twin" in names:
        assert isinstance(names["twin"], torch.nn.Module)
        assert all(isinstance(value, np.ndarray) for value in names["weights"].values())
        assert (folder / "weights.safetensors").is_file()


def test_functions_that_the_documents_name(just_imported):
    assert len(BLOCKS) >= 3
    text = "".join(path.read_text() for path in MARKDOWN)
    functions = re.findall(r"\bjaxnets\.([\w.]+)\(", text)
    assert {"create_model", "load", "model_options", "port.load", "port.save"} <= {*functions}
    for name in functions:
        assert callable(operator.attrgetter(name)(jaxnets)), name


def test_table_of_models(command):
    rows = json.loads(command("jaxnets.models.__main__", "--list", "--json").out)
    for row in rows:
        figures = f"{row['parameters']:,} | {row['macs'] / 1e6:,.2f} M | {row['entries']}"
        assert f"| `{row['name']}` | {figures} |" in README


def test_guides_are_all_here():
    assert {*GUIDES} == {ROOT / "README.md", *ROOT.glob("docs/*.md")}


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_lines(path):
    """Files and headings that a document points at exist; no line but a table's is over 100."""
    text = path.read_text()
    for target in re.findall(r"\]\(([^)]+)\)|^\[\w+\]: (\S+)", text, re.MULTILINE):
        file, _, heading = "".join(target).partition("#")
        if file.startswith("https://"):
            continue
        found = path.parent / file if file else path
        assert found.exists(), file
        if heading:
            assert heading in anchors(found.read_text()), target
    assert not [line for line in text.splitlines() if len(line) > 100 and not line.startswith("|")]


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h).lower().replace(" ", "-") for h in headings}


def test_paths_that_the_plan_names():
    """Files of docs/development.md are there; its rooms are all, each above what imports it."""
    text = (ROOT / "docs" / "development.md").read_text()
    for path in re.findall(r"`((?:jaxnets|torch_ref|tests|parity_tests)/[\w/.]*)`", text):
        assert (ROOT / path).exists(), path
    table = re.search(r"^\| room or file.*?\n\n", text, re.DOTALL | re.MULTILINE)[0]
    listed = [name for row in table.splitlines() for name in re.findall(r"`(\w+)/?`", row)]
    assert {*listed} == {*RANK} - {"jaxnets", "__main__"}
    assert [RANK[name] for name in listed] == sorted(RANK[name] for name in listed)

"""Command lines with something wrong in them, or short ones."""

from random import Random

_NUMBERS = ("0", "-0", "1", "-1", "2", "3", "7", "100", "1437", "1438", "1439", "100000000000",
            str(2**31), str(2**63), str(2**64), ".5", "-.5", "1e-320", "1e308", "1e400", "nan",
            "inf", "-inf", "0x10", "1_000", "１")  # fmt: skip
_WORDS = ("", " ", "None", "none", "True", "false", "sgd", "adam", "adamw", "value", "norm",
          "cosine", "one_cycle", "multistep", "warm_restarts", "digits", "folder", "se_resnet",
          "cifar100_v4", "bfloat16", "pmap", "step", "block", "crop", "restore", "/", "..", "~",
          "a/b", "é", "\x00", "'", '"', "%s", "{}", "\n", "--x", "=", "config.seed=1")  # fmt: skip
_LISTS = ("()", "(1,)", "(0, 0, 0)", "(1, 1, 1)", "(-1, 2)", "('crop', 'flip')", "('crop',) * 9",
          "[]", "[1, 2]", "(1, (2, 3))", "('a', 1)", "(nan,)", "1,2,3", "0,0,0", "crop,jitter", "(",
          "(None,)", "(1e400, 1)", "('erasing', 'auto_augment', 'rotation')")  # fmt: skip

_FLAGS = {
    "jaxnets.train": ("--config", "--workdir", "--print-config", "--config.seed", "--help"),
    "jaxnets.evaluate": ("--workdir", "--checkpoint", "--split", "--output", "--data-dir"),
    "jaxnets.predict": ("--workdir", "--input", "--output", "--topk", "--tta", "--batch-size",
                        "--names", "--proba", "--label-column", "--checkpoint", "--skip-bad"),
    "jaxnets.report": ("--workdir", "--checkpoint", "--output", "--data-dir"),
    "jaxnets.results": ("--target", "--json"),
    "jaxnets.port": ("--model", "--option", "--num-classes", "--dtype", "--checkpoint",
                     "--with-optimizer", "--step"),
    "jaxnets.models": ("--list", "--option", "--num-classes", "--budget", "--json"),
    "jaxnets.data": ("--name", "--dir", "--image-size", "--skip-bad"),
    "jaxnets.parity": ("--model", "--jax", "--torch", "--option", "--config", "--steps"),
    "jaxnets.bench": ("--config", "--batch", "--dtype", "--repeats", "--json"),
    "torch_ref.train": ("--config", "--workdir", "--init", "--print-config", "--config.seed"),
}  # fmt: skip
# Mostly about one: --list alone audits every model there is.
_FIRST = {"jaxnets.models": ["cifar100_v3"]}


def value(random: Random) -> str:
    """A word, a number, a list or any text."""
    kind = random.randrange(10)
    if kind < 7:
        return random.choice(random.choice((_NUMBERS, _WORDS, _LISTS)))
    if kind == 7:
        return str(random.choice((1, -1)) * random.randrange(10 ** random.randrange(1, 25)))
    if kind == 8:
        return str(random.uniform(-1, 1) * 10.0 ** random.randrange(-300, 300))
    letters = (random.randrange(random.choice((128, 0xD800))) for _ in range(random.randrange(9)))
    return "".join(map(chr, letters))


def command_line(random: Random) -> list[str]:
    """A command and its arguments."""
    module = random.choice(sorted(_FLAGS))
    words = []
    for _ in range(random.randrange(7)):
        word = random.choice(_FLAGS[module]) if random.random() < 0.5 else value(random)
        if "\x00" not in word:  # which no command line can hold
            words.append(word)
    return [module, *_FIRST.get(module, []), *words]

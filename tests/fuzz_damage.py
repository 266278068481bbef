"""Damage to files: to their bytes, and to the values in them."""

import copy
import math
from collections.abc import Mapping
from random import Random
from typing import Any

import numpy as np


def damaged(data: bytes, random: Random) -> bytes:
    """Bytes cut off, changed, put in, zeroed, repeated or replaced, mostly near the start."""
    out = bytearray(data)
    near = max(1, len(data) if random.random() < 0.5 else min(len(data), 2000))
    for _ in range(random.randrange(1, 5)):
        at, count = random.randrange(near), random.randrange(1, 64)
        match random.randrange(9):
            case 0:
                out[at : at + count] = random.randbytes(len(out[at : at + count]))
            case 1 | 2 | 3:
                out[at : at + 1] = random.randbytes(1)
            case 4:
                del out[at : at + count]
            case 5:
                out[at:at] = out[at : at + count]
            case 6:
                out[at : at + count] = bytes(len(out[at : at + count]))
            case 7:
                del out[at:]
            case 8 if random.random() < 0.3:
                out = bytearray(random.randbytes(random.randrange(64)))
    return bytes(out)


def _odd(random: Random, sharing: bool) -> Any:
    """A value that nothing expects."""
    shared: list = [0]
    for _ in range(40 * sharing):
        shared = [shared, shared]
    numbers = (-1, 0, 1, 2, 1000, 2**31, 2**63, -(2**70), 1e-320, 1e30, math.nan, math.inf, 1 + 2j)
    texts = ("", "x", "0", "sgd", "adam", "folder", "\ud800", "a" * 3000, b"x")
    lists = ([], [1], [[]], (), {}, {"a": 1}, [1000] * 6, [0, 0, 0], {"name": "resnet18"}, shared)
    arrays = (np.zeros(3, "f4"), np.zeros((0, 2)), np.int64(3), np.full((2, 2), np.nan))
    return random.choice(random.choice((numbers, texts, lists, arrays, (None, True))))


def altered(tree: Any, random: Random, *, sharing: bool = True) -> Any:
    """A copy in which a value somewhere is another, gone, or under another name.

    Args:
        sharing: also put in a list of a list twice, and so on, which is short in a pickle.
    """
    tree = copy.deepcopy(tree)
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        places = _places(tree, set())
        if not places:
            break
        inside, key = random.choice(places)
        match random.randrange(6):
            case 0:
                del inside[key]
            case 1 if isinstance(inside, dict):
                inside[random.choice(("x", 0, f"module.{key}", ""))] = inside.pop(key)
            case 2:
                other, name = random.choice(places)
                inside[key] = copy.deepcopy(other[name]) if _has(other, name) else None
            case _:
                inside[key] = _odd(random, sharing)
    return tree


def _has(inside: Any, key: Any) -> bool:
    return key in inside if isinstance(inside, Mapping) else key < len(inside)


def _places(tree: Any, seen: set[int]) -> list[tuple[Any, Any]]:
    """Every place of a value: what it is in, and its key or index; the higher ones more often."""
    if id(tree) in seen:
        return []
    seen.add(id(tree))
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    found = []
    for key in keys:
        below = _places(tree[key], seen)
        found += [(tree, key)] * (1 + len(below) // 8) + below
    return found

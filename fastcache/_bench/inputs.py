"""Inputs of the benchmarks: keys, skewed requests, and words of the standard library's sources.

Stand-alone: standard library only, no import of this package, because it is also executed inside
other interpreters (the abandoned package that shares our import name needs one of its own).
Everything is a pure function of its arguments, so that every subject sees the same input; what is
dear to make is made once, and nobody changes the lists.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import os
import random
import re
import sysconfig

SEED = 20_240_229
#: Far above CPython's small-int cache, so that every key is an object of its own.
FIRST_INT = 1_000_000


def ints(n: int, start: int = FIRST_INT) -> list[int]:
    """Return `n` consecutive ints (as row ids are), each an object of its own."""
    return list(range(start, start + n))


def strings(n: int, start: int = FIRST_INT) -> list[str]:
    """Return `n` distinct strings of 12 ASCII characters (`user:1000000`)."""
    return [f"user:{i}" for i in range(start, start + n)]


def tuples(n: int, start: int = FIRST_INT) -> list[tuple[int, int]]:
    """Return `n` distinct pairs of ints."""
    return [(i, i + 7) for i in range(start, start + n)]


def pairs(n: int) -> list[tuple[int, int]]:
    """Return `n` argument pairs for ``f(a, b)``: two ints each."""
    return tuples(n)


def shuffled(items: list) -> list:  # type: ignore[type-arg]
    """Return the same objects in a fixed random order (an insertion order would be prefetched)."""
    result = list(items)
    random.Random(SEED).shuffle(result)
    return result


def copies(items: list) -> list:  # type: ignore[type-arg]
    """Return equal keys that are other objects (int, str, tuple of ints), their hashes warm.

    A request never carries the very object that the cache stored; `is` comparisons all fail.
    """
    result = []
    for item in items:
        copy: object
        if isinstance(item, str):
            copy = (item + "!")[:-1]
        elif isinstance(item, tuple):
            copy = tuple([int(str(part)) for part in item])
        else:
            copy = int(str(item))
        hash(copy)  # a str keeps its hash; all subjects find it computed
        result.append(copy)
    return result


@functools.cache
def zipf(requests: int, unique: int, exponent: float = 1.0) -> list[int]:
    """Return `requests` int keys out of `unique`, the r-th most popular with weight r**-exponent.

    Popularity is independent of the keys' numeric order. Each distinct key is one object.
    """
    cumulative = list(itertools.accumulate((rank + 1) ** -exponent for rank in range(unique)))
    keys = shuffled(ints(unique))
    rng = random.Random(SEED)
    total = cumulative[-1]
    return [keys[bisect.bisect_left(cumulative, rng.random() * total)] for _ in range(requests)]


@functools.cache
def stdlib_words(limit: int) -> list[str]:
    """Return the first `limit` words of the standard library's sources, in order of their files.

    Every occurrence is a str object of its own, as a tokenizer would hand them over. The top-level
    modules are read in alphabetical order; fewer words come back where the sources hold fewer.
    """
    folder = sysconfig.get_paths()["stdlib"]
    words: list[str] = []
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".py"):
            continue
        with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
            words += re.findall(r"[A-Za-z]+", file.read())
        if len(words) >= limit:
            break
    return words[:limit]


_STEPS = (
    ("ization", "ize"), ("ational", "ate"), ("fulness", "ful"), ("ousness", "ous"),
    ("iveness", "ive"), ("tional", "tion"), ("biliti", "ble"), ("lessli", "less"),
    ("entli", "ent"), ("ation", "ate"), ("alism", "al"), ("aliti", "al"), ("ousli", "ous"),
    ("iviti", "ive"), ("fulli", "ful"), ("enci", "ence"), ("anci", "ance"), ("abli", "able"),
    ("izer", "ize"), ("ator", "ate"), ("alli", "al"), ("ies", "i"), ("sses", "ss"),
    ("ement", ""), ("ment", ""), ("able", ""), ("ible", ""), ("ance", ""), ("ence", ""),
    ("ness", ""), ("ing", ""), ("ed", ""), ("ly", ""), ("s", ""),
)  # fmt: skip
_VOWEL = re.compile("[aeiouy]")


def stem(word: str) -> str:
    """Return a Porter-like stem of an English word: pure, and dear enough to be worth caching."""
    result = word.lower()
    for suffix, replacement in _STEPS:
        if result.endswith(suffix):
            head = result[: -len(suffix)]
            if len(head) > 2 and _VOWEL.search(head):
                result = head + replacement
                break
    if len(result) > 3 and result[-1] == result[-2] and result[-1] not in "lsz":
        result = result[:-1]
    return result

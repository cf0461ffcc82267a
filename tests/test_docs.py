"""README and docs say what is so: their examples run, their commands and links exist.

The Python blocks of a page are one program: they run in order, in one namespace.
"""

import gc
import inspect
import re
import shlex
import warnings
from pathlib import Path

import pytest

import fastcache
import fastcache.tiered
from fastcache.__main__ import build_parser
from fastcache._core import Cached
from fastcache.loading.options import Options
from fastcache.tiered.options import TierOptions

ROOT = Path(__file__).resolve().parents[1]
#: Without the checkout around it, the suite has the pages that were copied beside it.
PAGES = [p for p in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if p.exists()]
FENCE = re.compile(r"^(?P<fence>```+)(?P<language>[^\n`]*)\n(?P<body>.*?)^(?P=fence)$", re.M | re.S)
LINK = re.compile(r"\[[^\]\n]*\]\((?!https?:)(?P<target>[^)#\s]+)")


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """The page's blocks in that language, each with the number of its first line."""
    text = page.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, found.start("body")) + 1, found["body"])
        for found in FENCE.finditer(text)
        if found["language"].strip() == language
    ]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_there_are_pages() -> None:
    assert PAGES, f"no README.md beside {Path(__file__).parent}"
    assert blocks(PAGES[0], "python"), "README.md has no example"


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=name)
def test_the_examples_run(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    gc.collect()  # what other tests left unclosed is not the page's
    namespace: dict[str, object] = {"__name__": "__example__"}
    for line, code in blocks(page, "python"):
        # blank lines in front, so that a traceback names the line of the page
        program = compile("\n" * (line - 1) + code, str(page), "exec")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            exec(program, namespace)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_commands_exist(page: Path) -> None:
    makefile = ROOT / "Makefile"
    targets = re.findall(r"^([a-z-]+):", makefile.read_text(), re.M) if makefile.exists() else None
    for _, body in [*blocks(page, "console"), *blocks(page, "sh")]:
        for line in body.replace("\\\n", " ").splitlines():
            command = shlex.split(line.removeprefix("$ "), comments=True)
            if command[:3] == ["python", "-m", "fastcache"]:
                build_parser().parse_args(command[3:])  # SystemExit where it does not exist
            if command[:1] == ["make"] and targets is not None:
                assert {word for word in command[1:] if "=" not in word} <= set(targets), line
    for target in re.findall(r"`make ([a-z-]+)[^`]*`", page.read_text(encoding="utf-8")):
        assert targets is None or target in targets, f"make {target}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_links_lead_somewhere(page: Path) -> None:
    if not (ROOT / "setup.py").exists():
        pytest.skip("without the checkout, what they lead to is not all here")
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        assert (page.parent / target).exists(), target


def test_the_readme_has_a_place_for_the_measured_table() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("<!-- bench:begin -->") == text.count("<!-- bench:end -->") == 1
    assert text.index("<!-- bench:begin -->") < text.index("<!-- bench:end -->")


@pytest.mark.parametrize(
    ("page", "owner"),
    [
        ("cache.md", fastcache.Cache),
        ("cached.md", Cached),
        ("decorators.md", fastcache.CachedFunction),
        ("namespaces.md", fastcache.Namespace),
        ("tiers.md", fastcache.TieredCache),
        ("tiers.md", fastcache.tiered.TieredStats),
        ("tiers.md", fastcache.tiered.L2Stats),
    ],
    ids=["Cache", "cached", "CachedFunction", "Namespace", "TieredCache", "TieredStats", "L2Stats"],
)
def test_each_public_attribute_is_on_its_page(page: str, owner: type) -> None:
    path = ROOT / "docs" / page
    if not path.exists():
        pytest.skip("the pages are not all here")
    words = set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    assert {name for name in vars(owner) if not name.startswith("_")} <= words


def test_each_option_of_cached_is_on_its_page() -> None:
    path = ROOT / "docs" / "cached.md"
    if not path.exists():
        pytest.skip("the pages are not all here")
    words = set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    assert len(Options.names) > 20
    assert words >= Options.names


def test_each_option_of_a_tiered_cache_is_on_its_page() -> None:
    path = ROOT / "docs" / "tiers.md"
    if not path.exists():
        pytest.skip("the pages are not all here")
    table = path.read_text(encoding="utf-8").partition("## Options")[2].partition("\n## ")[0]
    named = inspect.signature(fastcache.TieredCache).parameters
    options = {
        *TierOptions.__slots__,
        *(name for name in named if name not in ("l1", "l2", "options")),
    }
    assert len(options) > 20
    assert options <= set(re.findall(r"\w+", table))


def test_help_of_cached_names_each_option_with_its_default() -> None:
    signature = inspect.signature(fastcache.cached)
    assert set(signature.parameters) == {"fn", *Options.names}
    assert ... not in {parameter.default for parameter in signature.parameters.values()}
    assert signature.parameters["maxsize"].default == 128
    words = set(re.findall(r"\w+", fastcache.cached.__doc__ or ""))
    assert words >= Options.names


def test_each_exported_name_is_on_some_page() -> None:
    if not (ROOT / "docs").exists():
        pytest.skip("the pages are not all here")
    words = set(re.findall(r"\w+", " ".join(p.read_text(encoding="utf-8") for p in PAGES)))
    assert set(fastcache.__all__) <= words

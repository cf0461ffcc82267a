"""The shape of the package: imports point down, importing is cheap, files stay small.

The layers, from the top: face, behaviour, vocabulary, engine, structures. A module may import from
its own layer and from those below; the vocabulary knows no engine; only the engine and the
structures cimport structures.
"""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import fastcache

ROOT = Path(__file__).resolve().parents[1]
IN_TREE = (ROOT / "fastcache" / "__init__.py").exists()
#: The sources where they are, else what was installed (Python files, .pyi and .pxd only).
PACKAGE = ROOT / "fastcache" if IN_TREE else Path(fastcache.__file__).resolve().parent

FACE, BEHAVIOUR, VOCABULARY, ENGINE, STRUCTURES = 4, 3, 2, 1, 0
#: First part of the module's name below `fastcache` -> layer. A new module is added here first.
LAYERS = {
    "": FACE,
    "__main__": FACE,
    "_bench": FACE,
    "_demo": FACE,
    "cachetools": FACE,
    "contrib": FACE,
    "testing": FACE,
    "alru": BEHAVIOUR,
    "clru": BEHAVIOUR,
    "decorators": BEHAVIOUR,
    "http": BEHAVIOUR,
    "invalidation": BEHAVIOUR,
    "loading": BEHAVIOUR,
    "metrics": BEHAVIOUR,
    "names": BEHAVIOUR,
    "sim": BEHAVIOUR,
    "tiered": BEHAVIOUR,
    "warming": BEHAVIOUR,
    "writing": BEHAVIOUR,
    "_envelope": VOCABULARY,
    "_foreign": VOCABULARY,
    "_keys": VOCABULARY,
    "_lazy": VOCABULARY,
    "_living": VOCABULARY,
    "_options": VOCABULARY,
    "_redact": VOCABULARY,
    "_types": VOCABULARY,
    "backplane": VOCABULARY,
    "serializers": VOCABULARY,
    "stores": VOCABULARY,
    "_core": ENGINE,
    "_struct": STRUCTURES,
}
#: Layers that a layer may import from.
ALLOWED = {
    FACE: {FACE, BEHAVIOUR, VOCABULARY, ENGINE},
    BEHAVIOUR: {BEHAVIOUR, VOCABULARY, ENGINE},
    VOCABULARY: {VOCABULARY},
    ENGINE: {ENGINE, STRUCTURES},
    STRUCTURES: {STRUCTURES},
}
#: Pattern below the package -> most lines.
SIZES = {"_struct/*.pxd": 350, "_core.pyx": 1200, "**/*.py": 500}

CYTHON_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<source>[\w.]+)[ \t]+c?import[ \t]+\(?(?P<names>[^#\n]*)"
    r"|c?import[ \t]+(?P<modules>[^#\n]+))",
    re.MULTILINE,
)


def module_name(path: Path, package: Path) -> str:
    """Dotted name; the parts that the engine includes (`_core_*.pxi`) are `fastcache._core`."""
    parts = list(path.relative_to(package.parent).with_suffix("").parts)
    if path.suffix == ".pxi":
        parts[-1] = "_core"
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def layer_of(module: str) -> int:
    """Layer of a module of the package; an unknown one fails with what to do about it."""
    first = module.removeprefix("fastcache").lstrip(".").partition(".")[0]
    assert first in LAYERS, f"{module}: say in tests/test_architecture.py which layer it belongs to"
    return LAYERS[first]


def resolve(source: str, module: str, is_package: bool) -> str:
    """Absolute name of an imported module that may be written with leading dots."""
    dots = len(source) - len(source.lstrip("."))
    if not dots:
        return source
    base = module.split(".")
    base = base[: len(base) - dots + is_package]
    return ".".join([*base, *filter(None, [source.lstrip(".")])])


def expand(source: str, names: list[str], package: Path) -> Iterator[str]:
    """What `from source import names` loads: submodules where the names are such, else `source`."""
    folder = package.parent.joinpath(*source.split("."))
    for name in names:
        inner = any(folder.glob(f"{name}.py*")) or any(folder.glob(f"{name}.pxd"))
        yield f"{source}.{name}" if inner or (folder / name).is_dir() else source


def python_imports(path: Path, package: Path) -> Iterator[str]:
    module = module_name(path, package)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            written = "." * node.level + (node.module or "")
            source = resolve(written, module, path.name.startswith("__init__."))
            yield from expand(source, [alias.name for alias in node.names], package)


def cython_imports(path: Path, package: Path) -> Iterator[str]:
    module = module_name(path, package)
    for match in CYTHON_IMPORT.finditer(path.read_text(encoding="utf-8")):
        if match["modules"]:
            yield from (part.split()[0] for part in match["modules"].split(",") if part.strip())
            continue
        source = resolve(match["source"], module, path.name.startswith("__init__."))
        names = [
            part.split()[0] for part in match["names"].strip("() \\").split(",") if part.strip()
        ]
        yield from expand(source, names or ["*"], package)


def upward_imports(package: Path) -> list[str]:
    """One line for each import that does not point down."""
    wrong = []
    for path in sorted(package.rglob("*")):
        if path.suffix in (".py", ".pyi"):
            found = python_imports(path, package)
        elif path.suffix in (".pyx", ".pxd", ".pxi"):
            found = cython_imports(path, package)
        else:
            continue
        module = module_name(path, package)
        for target in found:
            if target.partition(".")[0] != "fastcache":
                continue
            if layer_of(target) not in ALLOWED[layer_of(module)]:
                wrong.append(f"{path.relative_to(package.parent).as_posix()} imports {target}")
    return wrong


def test_imports_point_down() -> None:
    assert upward_imports(PACKAGE) == []


@pytest.mark.skipif(not IN_TREE, reason="the engine's source is not installed")
def test_the_engine_is_built_on_the_structures() -> None:
    """That the reader of cimports sees anything at all."""
    seen = {
        target
        for path in PACKAGE.rglob("_core*")
        if path.suffix in (".pyx", ".pxd", ".pxi")
        for target in cython_imports(path, PACKAGE)
    }
    assert any(target.startswith("fastcache._struct.") for target in seen), seen


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("_core.pyx", "from fastcache.decorators import cache\n", "fastcache.decorators"),
        ("_core.pyx", "def f():\n    from . import testing\n", "fastcache.testing"),
        ("_core_views.pxi", "import fastcache._types\n", "fastcache._types"),
        ("_struct/slab.pxd", "from fastcache cimport _core\n", "fastcache._core"),
        ("_struct/slab.pxd", "from .._core cimport Cache\n", "fastcache._core"),
        ("_types.py", "def f():\n    import fastcache._core\n", "fastcache._core"),
        ("stores/sqlite.py", "from ..tiered import TieredCache\n", "fastcache.tiered"),
        ("decorators.py", "from fastcache import Cache\n", "fastcache"),
    ],
)
def test_an_upward_import_is_seen(tmp_path: Path, file: str, text: str, expected: str) -> None:
    package = tmp_path / "fastcache"
    for name in ("__init__.py", "_core.pyx", "_core.pxd", "_types.py", "testing.py", "tiered.py"):
        package.mkdir(exist_ok=True)
        (package / name).touch()
    (package / file).parent.mkdir(exist_ok=True)
    (package / file).write_text(text)
    assert upward_imports(package) == [f"fastcache/{file} imports {expected}"]


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.split())


def test_importing_loads_nothing_heavy() -> None:
    loaded = modules_after("import fastcache") - modules_after("pass")
    assert "fastcache._core" in loaded
    assert loaded & {"numpy", "asyncio", "inspect"} == set()
    tops = {name.partition(".")[0] for name in loaded}
    # What Cython keeps in sys.modules for its own types is made in memory, not imported.
    tops = {name for name in tops if not re.fullmatch(r"_cython_\w+|cython_runtime", name)}
    assert tops - sys.stdlib_module_names == {"fastcache"}


def test_importing_leaves_no_third_party_package_needed() -> None:
    """Without site-packages at all: `-S`, and nothing but the folder that holds the package."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(fastcache.__file__).parents[1])!r})\n"
        "import fastcache\n"
        "print(fastcache.Cache(1).maxsize)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_all_is_the_sorted_public_names() -> None:
    public = {
        name
        for name, value in vars(fastcache).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    public |= set(fastcache._LATER)  # some may have been asked for already
    assert set(fastcache.__all__) - {"__version__"} == public
    # constants, classes, functions, as ruff wants it
    order = sorted(
        fastcache.__all__, key=lambda name: (not name.isupper(), name[0].islower(), name)
    )
    assert list(fastcache.__all__) == order


@pytest.mark.parametrize(
    "name",
    [
        "backplane",
        "invalidation",
        "metrics",
        "serializers",
        "stores",
        "testing",
        "tiered",
        "writing",
    ],
)
def test_public_modules_say_what_is_public(name: str) -> None:
    module = import_module(f"fastcache.{name}")
    assert list(module.__all__) == sorted(module.__all__)
    assert all(hasattr(module, each) for each in module.__all__)
    own = {
        each
        for each, value in vars(module).items()
        if not each.startswith("_")
        and getattr(value, "__module__", "") == module.__name__
        and callable(value)
    }
    assert own <= set(module.__all__)


@pytest.mark.parametrize("pattern", SIZES)
def test_files_fit_their_description(pattern: str) -> None:
    too_long = {
        path.relative_to(PACKAGE).as_posix(): lines
        for path in PACKAGE.glob(pattern)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > SIZES[pattern]
    }
    assert too_long == {}, f"more than {SIZES[pattern]} lines: split by what they describe"


@pytest.mark.skipif(
    not (ROOT / ".git").exists() or shutil.which("git") is None, reason="not a git checkout"
)
def test_git_holds_no_build_output() -> None:
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    built = re.compile(
        r"(^|/)(build|dist|__pycache__|\.venv[^/]*|[^/]*\.egg-info)/"
        r"|\.(c|cpp|so|pyd|o|obj|pyc|pyo|whl)$"
    )
    tracked = done.stdout.split("\0")
    assert "pyproject.toml" in tracked
    assert [name for name in tracked if built.search(name)] == []

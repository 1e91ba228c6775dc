"""The rules of ARCHITECTURE.md that a reader cannot see break: who imports whom, folder by folder.

Over 300 lines, since each rule is a few lines, and there are many.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = {"usage": {"proxyapi", "chatproxy"}, "proxyapi": {"chatproxy"}}
# The one module that may import a package, by its name.
ONLY = {"openai": "proxyapi.upstream.sdk", "aiohappyeyeballs": "proxyapi.upstream.transport"}

# From the ground up: a module imports what stands before it, or is in the same folder. What is not named here stands on
# the ground: the modules at a package's root. Folders on one line do not know each other.
ORDER = {
    "usage": (
        "database",
        "kept_bodies",
        "answers",
        "journal",
        "prices",
        "money",
        "sums",
        "journal_shipping",
        "upkeep",
        "ledger",
        "live",
        "page_data",
        "admin_pages",
        "admin templatetags management",
    ),
    "proxyapi": (
        "bodies",
        "keys",
        "unauthenticated",
        "upstream",
        "limits",
        "object_owners",
        "call",
        "streams",
        "dispatch",
        "simple_api v1",
        "pages",
        "management",
        "urls",
        "admin",
    ),
    "chatproxy": (
        "configuration",
        "logs",
        "http postgres",
        "settings",
        "accounts",
        "start page_protection sign_in",
        "alerts",
        "processes",
        "doctor",
        "backup",
        "entry urls management admin templatetags",
        "asgi",
    ),
}
HTTP_CALL = re.compile(r"httpx2?\.(get|post|put|patch|delete|head|options|request|stream|Client|AsyncClient)")
MOST_FILES = MOST_FOLDERS = 12
LONG_FILE_LINES = 300
MOST_UNTYPED = 79  # annotations with `Any` in the three packages, where a library has no types
DJANGOS_OWN = {"migrations", "models", "management", "static", "templatetags", "__pycache__"}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def files(package: str) -> Iterator[tuple[str, Path]]:
    """The modules of a package, without its migrations."""
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if "migrations" not in parts:
            yield ".".join(parts).removesuffix(".__init__"), path


MODULES = {name: path for package in ORDER for name, path in files(package)}


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it: late imports and those for types only, too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


def floor(module: str) -> tuple[int, str]:
    """How high a module stands in its package, and what it is a part of there."""
    package, _, rest = module.partition(".")
    part = rest.partition(".")[0]
    for height, names in enumerate(ORDER[package], 1):
        if part in names.split():
            return height, part
    return 0, ""


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_run_one_way_between_packages(package: str) -> None:
    for name, path in files(package):
        assert not FORBIDDEN[package] & {one.partition(".")[0] for one in imports(path)}, name


@pytest.mark.parametrize("package", ORDER)
def test_imports_run_down_between_folders(package: str) -> None:
    upward = set()
    for name, path in files(package):
        height, part = floor(name)
        for other in imports(path):
            if other.partition(".")[0] == package and other in MODULES:
                its_height, its_part = floor(other)
                if its_height > height or (its_height == height and its_part != part):
                    upward.add((name, other))
    assert not upward


def test_no_imports_run_in_a_circle() -> None:
    graph = {
        name: {other for other in imports(path) if other in MODULES and other != name} for name, path in MODULES.items()
    }
    TopologicalSorter(graph).prepare()  # else CycleError, which names the modules


@pytest.mark.parametrize("package", ORDER)
def test_a_folder_has_a_map_and_no_more_than_a_dozen_files(package: str) -> None:
    folders = [path for path in (ROOT / package).iterdir() if path.is_dir() and path.name not in DJANGOS_OWN]
    assert len(folders) <= MOST_FOLDERS
    for folder in [ROOT / package, *folders]:
        assert ast.get_docstring(tree(folder / "__init__.py")), folder
        assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= MOST_FILES, folder


@pytest.mark.parametrize("package", ORDER)
def test_the_map_of_a_folder_names_all_of_its_files(package: str) -> None:
    for folder in (path for path in (ROOT / package).iterdir() if path.is_dir() and path.name not in DJANGOS_OWN):
        told = ast.get_docstring(tree(folder / "__init__.py")) or ""
        names = {path.stem for path in folder.glob("*.py")} - {"__init__"}
        assert {name for name in names if f"`{name}`" not in told} == set(), folder


def test_every_folder_has_its_place_in_the_order() -> None:
    for package, order in ORDER.items():
        folders = {path.name for path in (ROOT / package).iterdir() if path.is_dir()} - DJANGOS_OWN
        assert folders <= {name for names in order for name in names.split()}, package


def test_a_long_file_says_why_it_is_long() -> None:
    for folder in (*ORDER, "tests", "bench"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            if (
                "migrations" not in path.parts
                and "node_modules" not in path.parts
                and text.count("\n") > LONG_FILE_LINES
            ):
                assert "Over 300 lines, since" in (ast.get_docstring(tree(path)) or ""), path


@pytest.mark.parametrize("package", ORDER)
def test_migrations_of_a_package_follow_one_another(package: str) -> None:
    """Two that come after the same one would keep every server from starting."""
    paths = sorted((ROOT / package / "migrations").glob("0*.py"))
    before = [re.findall(rf"\(['\"]{package}['\"], ['\"](0\w+)['\"]\)", path.read_text()) for path in paths]
    assert before == [[], *([path.stem] for path in paths[:-1])]


@pytest.mark.parametrize("library", ONLY)
def test_only_one_module_imports_it(library: str) -> None:
    found = {name for name, path in MODULES.items() if library in {one.partition(".")[0] for one in imports(path)}}
    assert found == {ONLY[library]}


def test_no_test_replaces_a_clock_or_a_sleep_for_the_whole_process() -> None:
    """Event loops in other threads use them, too: a `sleep` that returns at once lets a loop of theirs fill the memory.

    A test replaces the name in the module under test: `monkeypatch.setattr(counters, "time", SimpleNamespace(time=…))`.
    """
    whole_process = re.compile(
        r"""(setattr|patch|patch\.object)\(\s*(f?["'][\w.]*\b)?(asyncio|time|threading|select)[.,]"""
    )
    found = {
        path.name
        for path in (ROOT / "tests").rglob("*.py")
        if whole_process.search(path.read_text()) and path != Path(__file__).resolve()
    }
    assert found == {"test_log_lines.py"}  # which puts back a hook of `threading`


def test_no_test_fails_because_the_machine_is_busy() -> None:
    """A test waits for what it asserts, and for as long as `polling.PATIENCE`; no moment of its own is the last one.

    What is measured is judged by the quickest of several runs (`polling.wait_until_quick`), and the time of computing
    by how it grows (`growth.wait_until_linear`).
    """
    found = set()
    for path in (ROOT / "tests").rglob("*.py"):
        if not {"node_modules", "clients"} & set(path.parts) and path.name not in {"polling.py", "growth.py"}:
            found |= {(path.name, node.lineno, fault) for node, fault in _haste(tree(path))}
    assert found == set()


def _haste(tree: ast.Module) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """Yields the places of a test that give the code under test too little time, each with what is wrong."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called, given = ast.unparse(node.func), {keyword.arg: keyword.value for keyword in node.keywords}
            if HTTP_CALL.fullmatch(called) and not {"timeout", None} & given.keys():
                yield node, "five seconds for an answer, as httpx2 has it; name a timeout"
            limits = [*(node.args if called.endswith((".wait", ".join", ".wait_for")) else ()), given.get("timeout")]
            if called.endswith((".wait", ".join", ".wait_for", ".acquire")) and any(map(_is_seconds, limits)):
                yield node, "a patience of its own"
            checks = given.get("suppress_health_check")
            if checks is not None and "too_slow" not in ast.unparse(checks):
                yield node, "hypothesis judges the time of its examples"
        if isinstance(node, ast.Assert) and re.search(r"(time|perf_counter|monotonic)\(\)[^=]* <", ast.unparse(node)):
            yield node, "a time is judged once"
        if isinstance(node, ast.BinOp) and re.search(r"(process|thread)_time\(\) -", ast.unparse(node)):
            yield node, "the speed of a machine; use wait_until_linear"
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In) and _is_log(node.comparators[0]):
            yield node, "a line of a log that is not waited for; use wait_for_log"


def _is_log(value: ast.expr) -> bool:
    return isinstance(value, ast.Attribute) and value.attr == "log"


def _is_seconds(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and isinstance(value.value, int | float) and 1 <= value.value < 60


def test_no_test_module_imports_from_another() -> None:
    """What tests share is in tests/support, under a name; else a change of one test breaks another."""
    found = set()
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(tree(path)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found |= {(path.name, name) for name in names if name.rpartition(".")[2].startswith("test_")}
    assert found == set()


def test_no_two_types_have_one_name() -> None:
    """A name stands for one thing, a class or an alias; only Django's commands must all be called `Command`."""
    types = Counter(
        name
        for path in MODULES.values()
        for node in tree(path).body
        for name in _names_of_types(node)
        if name != "Command"
    )
    assert [name for name, number in types.items() if number > 1] == []


def _names_of_types(node: ast.stmt) -> Iterator[str]:
    """Yields the name of a class, or of an alias such as `Json = dict[str, object]`."""
    if isinstance(node, ast.ClassDef):
        yield node.name
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    yield from (one.id for one in targets if isinstance(one, ast.Name) and re.match(r"_?[A-Z][a-z]", one.id))


def test_hardly_any_value_is_untyped() -> None:
    """`Any` switches the checks of types off, so it is only for values of libraries that have no types themselves."""
    untyped = Counter(
        name
        for name, path in MODULES.items()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Name) and node.id == "Any"
    )
    assert untyped.total() <= MOST_UNTYPED, untyped.most_common(10)


def test_a_name_that_is_a_claim_is_one_of_a_boolean() -> None:
    """`is_closed` returns a bool, and `find_row` returns what it has found, so that a call reads as what it does."""
    claim = re.compile(r"_*(is|has|are|can|may|must|needs|was|should|does)_(?!.*_sql$)")
    search = re.compile(r"_*(find|compute)_")
    for name, path in MODULES.items():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
                returned = ast.unparse(node.returns)
                if claim.match(node.name):
                    assert re.match(r"bool\b|Type(Is|Guard)\b", returned), (name, node.name)
                if search.match(node.name):
                    assert returned != "None", (name, node.name)


def test_a_docstring_opens_with_what_it_is_about() -> None:
    """A function's with a verb ("Returns …"), a class's and a property's with a noun; each is made of whole sentences.

    Hooks, context managers and decorators are said to be such, since somebody else decides when they run.
    """
    texts = [
        (f"{name}.{node.name}", node, ast.get_docstring(node) or "")
        for name, path in [*MODULES.items(), *files("bench"), *files("tests/support")]
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(node)
    ]
    functions = [text for text in texts if not isinstance(text[1], ast.ClassDef) and not _is_property(text[1])]
    verb = re.compile(r"[A-Z][a-z]+s\b")
    openings = {text.split()[0].strip(",") for _, _, text in functions if verb.match(text)}
    exempt = re.compile(r"Hook|Context manager|Decorator")
    assert [name for name, _, text in functions if not (verb.match(text) or exempt.match(text))] == []
    others = [text for text in texts if text not in functions]
    assert [name for name, _, text in others if text.split()[0] in openings] == []
    assert [name for name, _, text in texts if not re.search(r"[.:]$", text.partition("\n\n")[0])] == []


def _is_property(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    return any("property" in ast.unparse(one) for one in node.decorator_list)

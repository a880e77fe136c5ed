"""The sizes, names and imports that CONTRIBUTING.md asks for."""

import ast
from collections import Counter
from functools import cache
from pathlib import Path

from support.paths import ROOT

PRODUCT = [path for folder in ("shared", "server", "client") for path in sorted((ROOT / folder).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))

# What is too long still. Remove entries; add none.
LONG_FILES: set[str] = set()
LONG_CLASSES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()
LONG_TEST_NAMES: dict[str, int] = {}
WITHOUT_DOCSTRING: set[str] = set()


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in nodes(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def lines_of(node: ast.stmt) -> int:
    assert node.end_lineno
    return node.end_lineno - node.lineno + 1


def lines_without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return lines_of(node) - (lines_of(node.body[0]) if ast.get_docstring(node) else 0)


def long_files() -> set[str]:
    return {name_of(path) for path in PRODUCT + TESTS if len(path.read_text().splitlines()) > 350}


def long_classes() -> set[str]:
    return {
        f"{name_of(path)}:{node.name}"
        for path in PRODUCT
        for node in nodes(path)
        if isinstance(node, ast.ClassDef) and lines_of(node) > 150
    }


def long_functions() -> set[str]:
    return {
        f"{name_of(path)}:{node.name}"
        for path in PRODUCT
        for node in functions(path)
        if lines_without_docstring(node) > 45
    }


def long_test_names() -> Counter[str]:
    return Counter(
        name_of(path)
        for path in TESTS
        for node in functions(path)
        if node.name.startswith("test_") and len(node.name) > 60
    )


def without_docstring() -> set[str]:
    return {name_of(path) for path in PRODUCT + TESTS if not path.read_text().startswith('"""')}


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {part for alias in node.names for part in alias.name.split(".")}
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= set(node.module.split("."))
    return names


def test_a_file_has_at_most_350_lines() -> None:
    assert not long_files() - LONG_FILES


def test_a_class_has_at_most_150_lines() -> None:
    assert not long_classes() - LONG_CLASSES


def test_a_function_has_at_most_45_lines() -> None:
    """Its docstring is not counted."""
    assert not long_functions() - LONG_FUNCTIONS


def test_a_test_name_has_at_most_60_characters() -> None:
    assert not {path for path, count in long_test_names().items() if count > LONG_TEST_NAMES.get(path, 0)}


def test_a_file_opens_with_its_docstring() -> None:
    assert not without_docstring() - WITHOUT_DOCSTRING


def test_no_test_imports_a_test() -> None:
    tests = {path.stem for path in TESTS if path.stem.startswith("test_")}
    assert not {name_of(path) for path in TESTS if imports_of(path) & tests}

"""The sizes, names and imports that CONTRIBUTING.md asks for."""

import ast
from collections import Counter
from functools import cache
from pathlib import Path

from support.paths import ROOT

PRODUCT = [path for folder in ("shared", "server", "client") for path in sorted((ROOT / folder).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))

# What is too long still. Remove entries; add none.
LONG_FILES: set[str] = {"tests/unit/student/teacher/test_teacher_replicas.py"}
LONG_CLASSES: set[str] = {
    "client/pad_student/on_policy/background_scoring.py:Scoring",
    "client/pad_student/teacher/client.py:Teacher",
    "client/pad_student/training/trainer.py:PADTrainer",
    "server/pad_teacher/service.py:Service",
}
LONG_FUNCTIONS: set[str] = {"client/pad_student/commands/train.py:train"}
LONG_TEST_NAMES: dict[str, int] = {
    "tests/contract/test_cache.py": 7,
    "tests/contract/test_event_loop.py": 5,
    "tests/contract/test_jobs.py": 7,
    "tests/contract/test_life.py": 7,
    "tests/contract/test_openapi.py": 1,
    "tests/contract/test_scoring_routes.py": 3,
    "tests/contract/test_wrong_input.py": 1,
    "tests/fault/test_teacher_process.py": 1,
    "tests/fault/test_tls.py": 2,
    "tests/unit/student/commands/test_cli.py": 1,
    "tests/unit/student/commands/test_stages.py": 3,
    "tests/unit/student/data/test_prompts.py": 6,
    "tests/unit/student/data/test_readers.py": 4,
    "tests/unit/student/evaluation/test_answer_files.py": 1,
    "tests/unit/student/evaluation/test_report.py": 6,
    "tests/unit/student/model/test_liger.py": 1,
    "tests/unit/student/model/test_logprobs.py": 6,
    "tests/unit/student/model/test_shared_prompts.py": 6,
    "tests/unit/student/on_policy/test_background_scoring.py": 2,
    "tests/unit/student/on_policy/test_overlap.py": 10,
    "tests/unit/student/preference/test_diagnostics.py": 3,
    "tests/unit/student/preference/test_losses.py": 7,
    "tests/unit/student/preference/test_plackett_luce.py": 4,
    "tests/unit/student/preference/test_rewards.py": 4,
    "tests/unit/student/sampling/test_sampling.py": 1,
    "tests/unit/student/sampling/test_vllm_sampling.py": 9,
    "tests/unit/student/teacher/test_replicas.py": 4,
    "tests/unit/student/teacher/test_teacher_client.py": 7,
    "tests/unit/student/teacher/test_teacher_replicas.py": 10,
    "tests/unit/student/training/test_before_after.py": 4,
    "tests/unit/student/training/test_large_n.py": 8,
    "tests/unit/student/training/test_trainer.py": 10,
    "tests/unit/teacher/engines/test_engine.py": 4,
    "tests/unit/teacher/engines/test_engine_vllm.py": 2,
    "tests/unit/teacher/engines/test_memory.py": 2,
    "tests/unit/teacher/engines/test_prefix_tree.py": 1,
    "tests/unit/teacher/engines/test_tree_forward.py": 4,
    "tests/unit/teacher/engines/test_vllm_options.py": 5,
    "tests/unit/teacher/engines/test_vllm_requests.py": 9,
    "tests/unit/wire/test_by_sets.py": 2,
    "tests/unit/wire/test_chat.py": 4,
}
WITHOUT_DOCSTRING: set[str] = {
    "tests/contract/test_cache.py",
    "tests/contract/test_life.py",
    "tests/contract/test_wrong_input.py",
    "tests/unit/repository/test_documents.py",
    "tests/unit/teacher/api/test_chunked_json.py",
    "tests/unit/teacher/engines/test_engine.py",
    "tests/unit/teacher/engines/test_engine_vllm.py",
    "tests/unit/teacher/engines/test_vllm_requests.py",
}


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

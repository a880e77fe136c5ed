"""The files that a contributor and a forge read: the workflow, the forms, the citation, the hooks."""

import re
import tomllib

import pytest
import yaml

from pad_wire import STATUS
from support.paths import ROOT
from support.tools import check

PINNED_HOOKS = {"https://github.com/astral-sh/ruff-pre-commit": "ruff"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("github-workflows", ".github/workflows/ci.yml"),
        ("github-issue-forms", ".github/ISSUE_TEMPLATE/bug.yml"),
        ("citation-file-format", "CITATION.cff"),
    ],
)
def test_a_file_follows_its_schema(schema: str, path: str) -> None:
    check("check-jsonschema", "--builtin-schema", f"vendor.{schema}", ROOT / path)


def test_the_hook_runs_the_ruff_of_the_lock() -> None:
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    revisions = {each["repo"]: each["rev"] for each in repositories}
    lock = (ROOT / "constraints.txt").read_text()
    for url, name in PINNED_HOOKS.items():
        assert f"\n{name}=={revisions[url].removeprefix('v')}\n" in lock


def test_the_workflow_tries_every_python_of_the_classifiers() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    named = [re.search(r":: (3\.\d+)$", each) for each in PROJECT["classifiers"]]
    assert jobs["all"]["strategy"]["matrix"]["python"] == [found[1] for found in named if found]


def test_the_changelog_begins_with_the_version_under_way() -> None:
    version = PROJECT["version"].split(".dev")[0].removesuffix(".0")
    first = re.search(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first
    assert version in first[1]


def test_a_guide_writes_a_key_where_its_maker_alone_reads_it() -> None:
    """By the umask, or in a folder that nobody else may enter."""
    written = 0
    for path in (ROOT / "docs").rglob("*.md"):
        for block in re.findall(r"```sh\n(.*?)```", path.read_text(), re.DOTALL):
            for command in re.findall(r"^.*key add [^\n]*> .*$", block, re.MULTILINE):
                written += 1
                closed = "> deploy/secrets/" in command and "chmod 700 deploy/secrets " in block.split(command)[0]
                assert closed or "(umask 077; " in block.split(command)[0] + command, f"{path}: {command}"
    assert written >= 4


def test_the_operations_page_names_every_refusal() -> None:
    table = (ROOT / "docs/guides/operations.md").read_text().split("## Refusals")[1].split("\n## ")[0]
    named = {
        (code, int(status))
        for status, codes in re.findall(r"(\d{3}) (`\w+`(?:, `\w+`)*)", table)
        for code in re.findall(r"`(\w+)`", codes)
    }
    assert named == set(STATUS.items())


def test_make_help_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert targets
    assert re.findall(r"^([a-z-]+):.*##", text, re.MULTILINE) == targets[1].split()

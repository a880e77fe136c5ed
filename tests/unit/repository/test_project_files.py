"""The files that a contributor and a forge read: the workflow, the forms, the citation, the hooks."""

import re
import tomllib

import pytest
import yaml

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


def test_make_help_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert targets
    assert re.findall(r"^([a-z-]+):.*##", text, re.MULTILINE) == targets[1].split()

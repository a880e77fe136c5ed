"""The lock: one version for every requirement of pyproject.toml, so that pip has nothing to resolve."""

import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from support.paths import ROOT

LOCKS = {"constraints.txt": ["server", "client", "dev"], "constraints-vllm.txt": ["server", "client", "vllm"]}
PYTHONS = ["3.11", "3.12", "3.13"]


def asked(names: list[str]) -> list[Requirement]:
    """The requirements of pyproject.toml with these extras and dependency groups."""
    file = tomllib.loads((ROOT / "pyproject.toml").read_text())
    optional = file["project"]["optional-dependencies"] | file["dependency-groups"]
    lines = file["project"]["dependencies"] + [line for name in names for line in optional[name]]
    return [Requirement(line) for line in lines]


def pins(lock: str, **environment: str) -> dict[str, Version]:
    """The version of each name in an environment with these markers."""
    found: dict[str, Version] = {}
    for line in (ROOT / lock).read_text().splitlines():
        if line.startswith("#"):
            continue
        pin = Requirement(line)
        if pin.marker and not pin.marker.evaluate(default_environment() | environment):
            continue
        (only,) = pin.specifier
        assert only.operator == "==", line
        name = canonicalize_name(pin.name)
        assert name not in found, f"{name} is pinned twice"
        found[name] = Version(only.version)
    return found


def needed(roots: list[Requirement]) -> Iterator[Requirement]:
    """All requirements of these, recursively, by the metadata of the installed distributions."""
    todo, seen = list(roots), set()
    while todo:
        requirement = todo.pop()
        yield requirement
        for extra in ("", *requirement.extras):
            visit = (canonicalize_name(requirement.name), extra)
            if visit in seen:
                continue
            seen.add(visit)
            for line in distribution(requirement.name).requires or []:
                needs = Requirement(line)
                if needs.marker is None or needs.marker.evaluate({"extra": extra}):
                    todo.append(needs)


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_is_pinned_once_within_its_range(lock: str, python: str) -> None:
    pinned = pins(lock, python_version=python, python_full_version=f"{python}.0", sys_platform="linux")
    for requirement in asked(LOCKS[lock]):
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_the_pins_fit_each_other_and_are_installed() -> None:
    pinned = pins("constraints.txt")
    for requirement in needed(asked(LOCKS["constraints.txt"])):
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{name} is not pinned: run make lock"
        assert pinned[name] in requirement.specifier, requirement
        installed = Version(distribution(name).version)
        assert installed.public == str(pinned[name]), f"{name} {installed} is installed: run make install"


def test_both_engines_are_pinned_to_the_same_torch() -> None:
    core, vllm = (pins(lock) for lock in LOCKS)
    for name in ("torch", "transformers", "tokenizers", "pydantic", "fastapi"):
        assert core[name] == vllm[name]


def test_make_and_the_readme_install_what_the_lock_says() -> None:
    assert "pip install --quiet -c constraints.txt -e" in (ROOT / "Makefile").read_text()
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert "pip install -c constraints.txt '.[server,client]'" in readme
    assert "pip install -c constraints-vllm.txt '.[server,vllm]'" in readme

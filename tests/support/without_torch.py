"""The option ``--without-torch``: skip every test that imports torch, so that the others start in seconds."""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

import pytest


class SkippingLoader(Loader):
    """Skips the test, or the file of tests, that imports the module."""

    def exec_module(self, module: ModuleType) -> None:
        raise pytest.skip.Exception(f"imports {module.__name__}", allow_module_level=True)


class SkipImport(MetaPathFinder):
    """Finds one module, so that libraries can tell that it is installed, and lets nothing load it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname == self.name else None
        if spec is not None:
            spec.loader = SkippingLoader()
        return spec


def skip_tests_that_import(name: str) -> None:
    """Skip, from now on, every test that imports ``name``.

    Raises:
        pytest.UsageError: ``name`` has been imported already.
    """
    if name in sys.modules:
        raise pytest.UsageError(f"{name} was imported before the tests: a conftest.py or a plugin imports it")
    sys.meta_path.insert(0, SkipImport(name))

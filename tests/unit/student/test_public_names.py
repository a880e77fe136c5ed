"""The package's public names: listed, importable, and free of torch until one is used."""

import subprocess
import sys
from importlib import import_module

import pytest

import pad_student

ALIASES = ("losses", "plackett_luce")
LAZY = """
import sys
import pad_student
assert "torch" not in sys.modules and "pydantic" not in sys.modules
from pad_student import StudentError, TeacherError
assert "torch" not in sys.modules
import pad_student.plackett_luce
from pad_student.losses import ppd
from pad_student import losses
from pad_student.preference import losses as losses_at_home, plackett_luce as plackett_luce_at_home
assert pad_student.plackett_luce is plackett_luce_at_home and losses is losses_at_home
assert ppd is losses.ppd
assert losses.__name__ == losses.__spec__.name == "pad_student.preference.losses"
"""


def test_every_public_name_is_listed_and_importable() -> None:
    assert sorted(pad_student.__all__) == sorted(set(pad_student.__all__))
    for name in pad_student.__all__:
        assert getattr(pad_student, name) is not None


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="'pad_student' has no attribute 'Teachers'"):
        _ = pad_student.Teachers


@pytest.mark.parametrize("name", ALIASES)
def test_the_maths_has_a_short_import_path(name: str) -> None:
    """``pad_student.losses`` and ``pad_student.preference.losses`` are one module."""
    module = import_module(f"pad_student.{name}")
    assert module is import_module(f"pad_student.preference.{name}")
    assert module is getattr(pad_student, name)


def test_importing_the_package_imports_no_torch() -> None:
    subprocess.run([sys.executable, "-c", LAZY], check=True)


def test_standard_output_stays_empty() -> None:
    """DeepSpeed, if it is installed, writes a line there when it is imported."""
    pytest.importorskip("deepspeed")
    code = "import pad_student; pad_student.PADTrainer"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout == ""
    assert "accelerator" not in ran.stderr

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PACKAGES = {"pad_wire": "shared", "pad_teacher": "server", "pad_student": "client"}


def named_files() -> set[str]:
    return set(re.findall(r"`([\w/]+\.py)`", (ROOT / "ARCHITECTURE.md").read_text()))


def modules() -> set[str]:
    found: set[str] = set()
    for package, folder in PACKAGES.items():
        base = ROOT / folder / package
        found |= {str(path.relative_to(base)) for path in base.rglob("*.py") if not path.name.startswith("__")}
    return found


def test_the_architecture_names_every_module_and_none_that_is_not_there() -> None:
    assert named_files() == modules()


def test_every_file_says_at_its_top_what_it_is_for() -> None:
    for package, folder in PACKAGES.items():
        for path in (ROOT / folder / package).rglob("*.py"):
            assert path.read_text().startswith('"""'), path


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "examples/tinyworld/README.md"])
def test_every_link_and_file_that_a_document_names_is_there(name: str) -> None:
    path = ROOT / name
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_gemma_settings_are_settings() -> None:
    from pad_student.loading import load
    from pad_student.settings import DistillSettings

    settings = load(DistillSettings, "pad-student distill", [str(ROOT / "examples/gemma-2-9b-to-2b.yaml")])
    written = yaml.safe_load((ROOT / "examples/gemma-2-9b-to-2b.yaml").read_text())
    assert settings.learning_rate == written["learning_rate"] == 8e-7
    assert settings.trainer == {
        name: written[name]
        for name in (
            "per_device_train_batch_size",
            "lr_scheduler_type",
            "warmup_steps",
            "bf16",
            "gradient_checkpointing",
            "save_steps",
        )
    }

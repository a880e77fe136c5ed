"""The Dockerfile: users, extras, files, health checks."""

import json
import re
import tomllib
from typing import NamedTuple

import pytest

from pad_teacher.runtime.health import DEFAULT_PORT
from support.tools import ROOT, UID, check, serve_settings

TEACHERS = ["teacher", "teacher-gpu"]
IMAGES = [*TEACHERS, "student"]


class Instruction(NamedTuple):
    word: str
    rest: str


def stages() -> dict[str, list[Instruction]]:
    """Each stage's instructions, those of the stage it begins from first."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    found: dict[str, list[Instruction]] = {}
    name = ""
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            source, _, name = rest.partition(" AS ")
            found[name] = list(found.get(source, []))
        elif name:
            found[name].append(Instruction(word, rest))
    return found


def last(image: str, word: str) -> str:
    return [instruction.rest for instruction in stages()[image] if instruction.word == word][-1]


def test_the_dockerfile_is_clean() -> None:
    check("hadolint", ROOT / "Dockerfile")


@pytest.mark.parametrize("image", IMAGES)
def test_every_image_runs_as_a_numbered_user_that_is_not_root(image: str) -> None:
    assert last(image, "USER") == f"{UID}:{UID}"
    assert f"--uid {UID}" in " ".join(instruction.rest for instruction in stages()[image])


@pytest.mark.parametrize("image", IMAGES)
def test_every_image_installs_known_extras_with_a_lock(image: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()
    installs = [rest for word, rest in stages()[image] if word == "RUN" and "pip install" in rest]
    for install in installs:
        lock = re.findall(r"--constraint (\S+)", install)
        assert lock
        assert (ROOT / lock[0]).exists()
    asked = set(re.findall(r"\.\[([\w,]+)\]", installs[-1])[0].split(","))
    assert asked <= extras
    assert asked == {"teacher": {"server"}, "teacher-gpu": {"server", "vllm"}, "student": {"client"}}[image]


@pytest.mark.parametrize("image", IMAGES)
def test_every_file_an_image_copies_exists_and_is_sent(image: str) -> None:
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for word, rest in stages()[image]:
        for name in rest.split()[:-1] if word == "COPY" else []:
            assert (ROOT / name).exists(), name
            assert any((ROOT / name) in ROOT.glob(pattern) for pattern in sent), name


@pytest.mark.parametrize("image", IMAGES)
def test_no_weights_are_in_an_image_and_models_are_a_mount(image: str) -> None:
    assert last(image, "VOLUME") == "/models"
    assert not re.search(r"huggingface|hf download|snapshot_download|/models/", (ROOT / "Dockerfile").read_text())


@pytest.mark.parametrize("image", TEACHERS)
def test_a_teacher_listens_on_its_port_and_is_healthy_if_ready(image: str) -> None:
    assert json.loads(last(image, "ENTRYPOINT")) == ["pad-teacher"]  # so that key add works too
    assert "PAD_TEACHER_HOST=0.0.0.0" in last(image, "ENV").split()
    settings = serve_settings(["serve", "--model", "/models/some"])
    assert last(image, "EXPOSE") == str(settings.port) == DEFAULT_PORT
    assert last(image, "HEALTHCHECK").endswith('CMD ["pad-teacher", "health"]')


@pytest.mark.parametrize("image", TEACHERS)
def test_a_volume_for_data_belongs_to_the_teachers_user(image: str) -> None:
    made = [rest for word, rest in stages()[image] if word == "RUN" and "mkdir" in rest]
    assert re.search(r"chown pad (/\w+ )*/data", made[0])

"""The commands of the README and the guides, as they stand there: ports, numbers of steps and some names differ."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from support.paths import ROOT
from support.processes import ENVIRONMENT, TeacherProcess, teacher_process

BIN = Path(sys.executable).parent
Place = tuple[Path, TeacherProcess, dict[str, str]]


def blocks(page: str, section: str, language: str) -> list[str]:
    """The code blocks of one section of a document."""
    text = (ROOT / page).read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run(script: str, place: Place) -> str:
    """Run a block against the place's teacher; one that begins with an import is Python's."""
    folder, teacher, environment = place
    script = script.replace("localhost:8010", teacher.url.removeprefix("http://"))
    shell = [sys.executable, "-c"] if script.startswith("import") else ["bash", "-euo", "pipefail", "-c"]
    command = [*shell, script]
    ran = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def checkout(folder: Path) -> dict[str, str]:
    """Make a folder look like the checkout; return the environment for commands in it."""
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "runs").mkdir()
    return ENVIRONMENT | {"PATH": f"{BIN}:{os.environ['PATH']}", "PAD_STUDENT_MAX_STEPS": "2"}


def model_of(serve: str) -> Path:
    """The model that a ``pad-teacher serve`` command names."""
    return ROOT / serve.split("--model ")[1].split()[0]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A service with a key, as the guide makes both."""
    folder = tmp_path_factory.mktemp("guides")
    environment = checkout(folder)
    text = (ROOT / "docs/guides/serving.md").read_text()
    make_key, serve = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[0].splitlines()
    subprocess.run(["bash", "-euc", make_key], cwd=folder, env=environment, check=True)
    keys = folder / serve.split("--keys ")[1]
    with teacher_process(model_of(serve), folder / "log", "--keys", str(keys)) as teacher:
        teacher.wait_until_ready()
        key = (folder / "my-lab.key").read_text().strip()
        yield folder, teacher, environment | {"KEY": key, "PAD_STUDENT_KEY": key}


@pytest.fixture(scope="module")
def open_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A service without keys, as the README starts it."""
    folder = tmp_path_factory.mktemp("readme")
    environment = checkout(folder)
    serve = blocks("README.md", "Serve, score, distil", "sh")[0]
    with teacher_process(model_of(serve), folder / "log") as teacher:
        teacher.wait_until_ready()
        yield folder, teacher, environment | {"PAD_STUDENT_TEACHER": teacher.url}


def test_the_readme_scores_and_distils_without_a_key(open_place: Place) -> None:
    _, score, distil = blocks("README.md", "Serve, score, distil", "sh")
    (scored,) = json.loads(run(score, open_place))["sets"]
    rewards = " and ".join(f"{response['reward']:.2f}" for response in scored["responses"])
    assert f"the rewards of these two are {rewards}." in (ROOT / "README.md").read_text()
    run(distil, open_place)
    assert (open_place[0] / "runs/tinyworld/model.safetensors").exists()
    assert (open_place[0] / "runs/tinyworld/report.html").exists()


def test_the_readme_quotes_the_loop() -> None:
    (excerpt,) = blocks("README.md", "The method in one loop", "python")
    loop = (ROOT / "examples/loop.py").read_text()
    body = dedent(loop[loop.index("        # 1. ") : loop.index("        # 5. ")])
    assert excerpt in body


def test_the_readme_quotes_the_demos_last_lines() -> None:
    seeds = json.loads((ROOT / "benchmarks/results/demo_seeds.json").read_text())
    (first,) = (ran for ran in seeds["runs"] if ran["seed"] == 0)
    text = (ROOT / "README.md").read_text()
    assert f": {first['grade_before']:.3f} before, {first['grade_after']:.3f} after ({first['gain']:+.3f})" in text
    assert f"; {first['wall_seconds']:.0f} s, {first['teacher_tokens']:,} teacher tokens" in text


def test_serving_with_a_key(place: Place) -> None:
    (check,) = blocks("docs/guides/serving.md", "Is it ready?", "sh")
    answer = run(check, place)
    assert '"status":"ready"' in answer
    assert '"fingerprint"' in answer


def test_scoring_with_curl_and_with_python(place: Place) -> None:
    (curl,) = blocks("docs/guides/scoring.md", "With curl", "sh")
    answer = run(curl, place)
    assert '"reward"' in answer
    assert '"label_mass"' in answer
    objects, pairs = blocks("docs/guides/scoring.md", "In Python", "python")
    assert "two three four five -" in run(objects, place)
    assert run(f"{objects}\n{pairs}", place).splitlines()[-1].startswith("[-")


def test_an_audit_of_the_signals(place: Place) -> None:
    (audit,) = blocks("docs/guides/signals.md", "Audit a teacher", "sh")
    assert "recommended" in run(audit, place)
    assert (place[0] / "runs/audit/audit.json").exists()


def test_training_by_command_by_stages_and_in_python(place: Place) -> None:
    folder = place[0]
    (distill,) = blocks("docs/guides/training.md", "Distil in rounds", "sh")
    run(distill, place)
    assert (folder / "runs/tinyworld/model.safetensors").exists()
    assert (folder / "runs/tinyworld-grade/result.json").exists()
    (stages,) = blocks("docs/guides/training.md", "Each stage alone", "sh")
    run(stages, place)
    assert (folder / "runs/offline/model.safetensors").exists()
    (python,) = blocks("docs/guides/training.md", "In Python", "python")
    run(python, place)


def test_a_student_is_chatted_with_graded_and_judged(place: Place) -> None:
    """The student of before any run, on some of the prompts."""
    folder, page = place[0], "docs/guides/evaluate.md"
    prompts = (ROOT / "examples/tinyworld/heldout.jsonl").read_text().splitlines(keepends=True)
    (folder / "some.jsonl").write_text("".join(prompts[:20]))

    def block(section: str) -> str:
        (found,) = blocks(page, section, "sh")
        found = found.replace("examples/tinyworld/heldout.jsonl", "some.jsonl")
        return found.replace("runs/tinyworld", "examples/tinyworld/student")

    assert run(f"echo 'count to five' | {block('Talk to it')}", place).split()
    for section in ("Does it keep the rules?", "Is one better than the other?", "Which one does a judge prefer?"):
        run(block(section), place)
    assert (folder / "runs/grade-after/result.json").exists()
    assert (folder / "runs/win-rate/result.json").exists()


def test_dckd_and_adpa_learn_from_a_teacher_and_its_reference(tmp_path: Path) -> None:
    """The tiny teacher stands for all three models."""
    model = "examples/tinyworld/teacher"
    environment = checkout(tmp_path) | {"PAD_STUDENT_MAX_RESPONSE_TOKENS": "24"}
    prompts = [json.loads(line) for line in (ROOT / "examples/tinyworld/prompts.jsonl").read_text().splitlines()[:8]]
    pairs = [{"prompt": each["prompt"], "chosen": "two three", "rejected": "red"} for each in prompts]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    serve, _ = blocks("docs/guides/token-level.md", "Serve both models", "sh")
    options = serve.replace("ALIGNED", model).replace("REFERENCE", str(ROOT / model)).split()[4:]
    with teacher_process(ROOT / model, tmp_path / "log", *options) as teacher:
        teacher.wait_until_ready()
        (train,) = blocks("docs/guides/token-level.md", "Train", "sh")
        run(train.replace("STUDENT", model).replace("URL", teacher.url), (tmp_path, teacher, environment))
    for name in ("dckd", "adpa"):
        lines = [json.loads(line) for line in (tmp_path / f"runs/{name}/metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == [1, 2]
        assert all(math.isfinite(line["loss/nll"]) for line in lines)


def test_the_readmes_make_targets_are_the_makefiles() -> None:
    targets = re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert targets == ["demo", "test"]
    assert all(f"\n{target}: " in (ROOT / "Makefile").read_text() for target in targets)


def test_the_demo_runs_to_its_end_and_writes_its_result(tmp_path: Path) -> None:
    """Two steps of it; the benchmark ``demo_seeds`` measures all of them."""
    demo = [sys.executable, ROOT / "examples/tinyworld/demo.py", "--out", tmp_path / "demo"]
    ran = subprocess.run(
        demo,
        cwd=tmp_path,
        env=ENVIRONMENT | {"PAD_STUDENT_MAX_STEPS": "2"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    result = json.loads((tmp_path / "demo" / "result.json").read_text())
    assert {"grade_before", "grade_after", "wall_seconds", "teacher_tokens"} <= result.keys()
    assert 0.35 <= result["grade_before"] <= 0.6
    assert str(result["grade_after"])[:4] in ran.stdout

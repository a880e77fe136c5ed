"""Distributions of a real process with two models, against float64 arithmetic with transformers alone."""

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from safetensors.numpy import load
from transformers import AutoModelForCausalLM, AutoTokenizer, ByT5Tokenizer

from pad_teacher.engines.embedded.engine import TransformersEngine
from pad_teacher.errors import CannotServe
from pad_teacher.scoring.load import load as load_teacher
from pad_teacher.settings import ServeSettings
from support.processes import TeacherProcess, teacher_process

TINYWORLD = Path(__file__).parents[2] / "examples" / "tinyworld"
RESPONSES = ["three four five", "five four three", {"text": "the", "finished": False}]
SETS = [
    {"prompt": json.loads(line)["prompt"], "responses": RESPONSES}
    for line in (TINYWORLD / "heldout.jsonl").read_text().splitlines()[:4]
]
TOP = 50


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The teacher with other weights."""
    folder = tmp_path_factory.mktemp("reference")
    model = AutoModelForCausalLM.from_pretrained(TINYWORLD / "teacher")
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn_like(weight)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(TINYWORLD / "teacher").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pair(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    log = tmp_path_factory.mktemp("pair") / "log"
    options = ("--reference", str(reference), "--cache-bytes", "0")  # so that rows asked for again are computed again
    with teacher_process(TINYWORLD / "teacher", log, *options) as process:
        process.wait_until_ready()
        yield process


def exactly(folder: Path, prompt: str, ids: list[int]) -> torch.Tensor:
    """Log-probabilities [tokens, vocabulary]: one forward pass in float64."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    message = [{"role": "user", "content": prompt}]
    rendered = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    before = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        return model(torch.tensor([before + ids])).logits[0, len(before) - 1 : -1].log_softmax(-1)


def test_both_models_equal_float64_and_the_likelihood(pair: TeacherProcess, reference: Path) -> None:
    with httpx.Client(base_url=pair.url, timeout=60) as client:
        asked = {"sets": SETS, "top": TOP, "reference": True}
        headers = {"Accept": "application/vnd.safetensors"}
        found = load(client.post("/v1/token_logprobs", json=asked, headers=headers).content)
        alone = [
            load(client.post("/v1/token_logprobs", json=asked | {"sets": [each]}, headers=headers).content)
            for each in SETS
        ]
        likelihood = client.post("/v1/likelihood", json={"sets": SETS}).json()
    spans = list(zip(found["offsets"], found["offsets"][1:], strict=False))
    expected = [each["log_likelihood"] for item in likelihood["sets"] for each in item["responses"]]
    prompts = [item["prompt"] for item in SETS for _ in RESPONSES]
    for prompt, (start, stop), total in zip(prompts, spans, expected, strict=True):
        ids = found["token_ids"][start:stop].tolist()
        named = torch.from_numpy(found["top_ids"][start:stop].astype(np.int64))
        assert found["token_logprobs"][start:stop].sum(dtype=np.float64) == pytest.approx(total, abs=1e-5)
        for folder, before in ((TINYWORLD / "teacher", ""), (reference, "reference_")):
            exact = exactly(folder, prompt, ids)
            values = "top_logprobs" if not before else "reference_logprobs"
            rest = exact.scatter(-1, named, -torch.inf).logsumexp(-1)
            own = exact.gather(-1, torch.tensor(ids)[:, None])[:, 0]
            assert found[values][start:stop] == pytest.approx(exact.gather(-1, named).numpy(), abs=1e-4)
            assert found[f"{before}rest"][start:stop] == pytest.approx(rest.numpy(), abs=1e-4)
            assert found[f"{before}token_logprobs"][start:stop] == pytest.approx(own.numpy(), abs=1e-4)
            if not before:
                assert (named == exact.topk(TOP).indices).all()
    for name in ("top_logprobs", "rest", "reference_logprobs", "reference_rest"):  # alone as together
        assert np.concatenate([each[name] for each in alone]) == pytest.approx(found[name], abs=1e-5)


def test_a_reference_with_another_tokenizer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any weights are read, which may take minutes."""
    monkeypatch.setattr(TransformersEngine, "load", None)
    settings = ServeSettings(model=str(TINYWORLD / "teacher"), reference=str(TINYWORLD / "student"))
    with pytest.raises(CannotServe, match=r"it needs the tokenizer of --model, and [0-9]+ entries of its vocabulary"):
        load_teacher(settings)


def test_a_tokenizer_in_python_alone_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(TransformersEngine, "load", None)
    ByT5Tokenizer().save_pretrained(tmp_path)
    settings = ServeSettings(model=str(tmp_path), allow=["tokenizer-round-trip"])
    with pytest.raises(CannotServe, match=r"a teacher needs a fast tokenizer"):
        load_teacher(settings)


def test_the_fingerprint_covers_both_models(pair: TeacherProcess) -> None:
    alone = load_teacher(ServeSettings(model=str(TINYWORLD / "teacher")))
    card = httpx.get(f"{pair.url}/v1/models").json()["data"][0]
    assert card["fingerprint"] != alone.id.fingerprint

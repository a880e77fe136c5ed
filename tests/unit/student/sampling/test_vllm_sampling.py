"""Sampling through a server of vLLM's kind: what it is asked, and how other weights are found out."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM

from pad_student.commands.settings import DistillSettings
from pad_student.commands.train import decisive_settings
from pad_student.errors import ConfigError, SamplingError
from pad_student.on_policy import rounds
from pad_student.preference.config import PADConfig
from pad_student.sampling import vllm_sampler as vllm_sampling
from pad_student.sampling.export_weights import save_whole_weights
from pad_student.sampling.vllm_sampler import VllmSampler
from pad_student.sampling.vllm_server import SamplerNonsense, SamplerRefused, SamplerUnreachable, StaleWeights
from pad_student.storage.run_directory import newest_whole
from pad_wire import Response
from support import tiny as architectures
from support.fake_sampling_server import FakeSamplingServer
from support.student_runs import RuleTeacher, metrics, trainer, weights
from support.tiny_student import tiny_encoder, tiny_model

ENCODER = tiny_encoder()
PROMPTS = ["hi", "what is a longer question?"]
HOW: dict[str, Any] = {"n": 3, "temperature": 0.7, "max_new_tokens": 6, "seed": 1, "keys": ["a", "b"]}
URL = "http://127.0.0.1:8000"


def sampler(folder: Path, server: FakeSamplingServer, url: str = URL) -> VllmSampler:
    return VllmSampler(url, folder / "sampler", 1e-3, server.transport)


def sampled(folder: Path, server: FakeSamplingServer, model: Any = None, **changes: Any) -> list[list[Response]]:
    model = model or tiny_model()
    return sampler(folder, server).with_weights_of(model)(model, ENCODER, PROMPTS, **HOW | changes)


def test_n_responses_to_a_prompt_depend_on_its_own_seed_alone(tmp_path: Path) -> None:
    first = sampled(tmp_path, FakeSamplingServer())
    assert [len(responses) for responses in first] == [3, 3]
    assert sampled(tmp_path, FakeSamplingServer()) == first
    assert sampled(tmp_path, FakeSamplingServer(), seed=2) != first
    one, two = sampled(tmp_path, FakeSamplingServer(), keys=["a", "other"])
    assert one == first[0]
    assert two != first[1]


def test_a_request_leaves_nothing_to_the_servers_own_settings(tmp_path: Path) -> None:
    model, server = tiny_model(), FakeSamplingServer()
    model.generation_config.eos_token_id = [4, 9]
    sampled(tmp_path, server, model)
    plain = {
        "top_p": 1,
        "top_k": 0,
        "min_p": 0,
        "repetition_penalty": 1,
        "presence_penalty": 0,
        "frequency_penalty": 0,
    }
    asked = {"model": "student", "n": 3, "temperature": 0.7, "max_tokens": 6, "stop_token_ids": [4, 9], **plain}
    asked |= {"ignore_eos": True, "logprobs": 0, "return_token_ids": True, "cache_salt": server.version}
    asked_of = {tuple(request["prompt"]): request for request in server.requests}
    for prompt in map(ENCODER.prompt_ids, PROMPTS):
        seed = {"seed": asked_of[tuple(prompt)]["seed"]}
        assert asked_of[tuple(prompt)] == asked | seed | {"prompt": prompt}


def test_each_load_has_its_own_version_and_leaves_no_files(tmp_path: Path) -> None:
    server = FakeSamplingServer()
    by = sampler(tmp_path, server)
    salts = set()
    for seed in (0, 1):
        model = tiny_model(seed=seed)
        by.with_weights_of(model)(model, ENCODER, PROMPTS, **HOW)
        salts |= {request["cache_salt"] for request in server.requests}
    assert server.loads == len(salts) == 2
    assert list(tmp_path.iterdir()) == []


def test_only_a_response_with_an_end_token_is_finished(tmp_path: Path) -> None:
    responses = sampled(tmp_path, FakeSamplingServer(), n=60)[0]
    assert {response.finished for response in responses} == {True, False}
    assert all(len(response.text) < 6 for response in responses if response.finished)


def test_a_server_that_keeps_its_old_weights_is_found_out(tmp_path: Path) -> None:
    server = FakeSamplingServer(deaf=True)
    by = sampler(tmp_path, server)
    by.with_weights_of(tiny_model())(tiny_model(), ENCODER, PROMPTS, **HOW)
    changed = tiny_model()
    with torch.no_grad():
        changed.lm_head.weight.add_(torch.randn_like(changed.lm_head.weight), alpha=0.1)
    with pytest.raises(StaleWeights, match=r"nats a token off the student's, and sampler_tolerance is 0\.001"):
        by.with_weights_of(changed)(changed, ENCODER, PROMPTS, **HOW)


def test_log_probabilities_that_are_nan_never_pass(tmp_path: Path) -> None:
    model = tiny_model()
    sample = sampler(tmp_path, FakeSamplingServer()).with_weights_of(model)
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(StaleWeights):
        sample(model, ENCODER, PROMPTS, **HOW)


def test_a_restarted_or_shared_server_is_detected(tmp_path: Path) -> None:
    server = FakeSamplingServer()
    sample = sampler(tmp_path, server).with_weights_of(tiny_model())
    server.version = "default"
    with pytest.raises(StaleWeights, match="was restarted or given other weights while it sampled"):
        sample(tiny_model(), ENCODER, PROMPTS, **HOW)


def test_a_prompt_past_the_servers_context_is_an_error(tmp_path: Path) -> None:
    """One past the student's own context has no responses."""
    assert list(map(len, sampled(tmp_path, FakeSamplingServer(), tiny_model(context=20)))) == [3, 0]
    assert sampled(tmp_path, FakeSamplingServer(), tiny_model(context=4)) == [[], []]
    with pytest.raises(SamplerRefused, match=r"takes 20 tokens, and .* needs 35: start it with"):
        sampled(tmp_path, FakeSamplingServer(max_model_len=20))


def test_responses_cut_before_any_text_are_sampled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last try the prompt has no responses."""
    model, server = tiny_model(), FakeSamplingServer()
    with torch.no_grad():
        model.lm_head.weight.zero_()  # every token is as likely, five of them special
    how = HOW | {"n": 1, "max_new_tokens": 1, "keys": [str(k) for k in range(60)]}
    by = sampler(tmp_path, server).with_weights_of(model)
    responses = by(model, ENCODER, ["hi"] * 60, **how)
    assert all(each[0].text or each[0].finished for each in responses if each)
    assert len({request["seed"] for request in server.requests}) == len(server.requests) > 60
    monkeypatch.setattr(vllm_sampling, "EMPTY_RETRIES", 1)
    assert by(model, ENCODER, ["hi"] * 60, **how).count([]) == len(server.requests) - 2 * 60


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (httpx.Response(404), "has no route to load weights: start vLLM with VLLM_SERVER_DEV_MODE=1"),
        (httpx.Response(500, json={"error": {"message": "no such\nfile"}}), r"\(no such file\): restart it with"),
        (httpx.Response(500, text="<html>"), r"\(HTTP status 500\): restart it with"),
    ],
)
def test_refused_weights_are_reported_in_the_servers_words(
    tmp_path: Path, answer: httpx.Response, complaint: str
) -> None:
    with pytest.raises(SamplerRefused, match=complaint):
        sampled(tmp_path, FakeSamplingServer(collective_rpc=lambda _: answer))
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_away_or_has_no_address_is_said(tmp_path: Path) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(SamplerUnreachable, match="cannot connect to the sampling server at http://127"):
        sampled(tmp_path, FakeSamplingServer(collective_rpc=refuse))
    with pytest.raises(SamplerUnreachable, match="the sampling server's URL must look like"):
        sampler(tmp_path, FakeSamplingServer(), "localhost")


def choice(*ids: int, log_probs: int | None = None) -> dict[str, Any]:
    count = len(ids) if log_probs is None else log_probs
    return {"token_ids": ids, "logprobs": {"token_logprobs": [-1.0] * count}}


@pytest.mark.parametrize(
    "choices",
    [
        None,
        [{"token_ids": [7] * 6}],
        [choice(*[7] * 6)] * 2,
        [choice(7, 7)] * 3,
        [choice(7, 4, 7, 7, 7, 7)] * 3,
        [choice(*[7] * 6, 4)] * 3,
        [choice(*[7] * 6, log_probs=5)] * 3,
        [choice()] * 3,
    ],
    ids=[
        "none",
        "no numbers",
        "too few",
        "ends early",
        "goes on past its end",
        "too long",
        "a number short",
        "empty",
    ],
)
def test_replies_that_are_not_what_was_asked_for_are_never_used(tmp_path: Path, choices: Any) -> None:
    answer = httpx.Response(200, json={"choices": choices})
    with pytest.raises(SamplerNonsense):
        sampled(tmp_path, FakeSamplingServer(**{"v1/completions": lambda _: answer}))


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_an_adapter_is_merged_on_disk_alone(tmp_path: Path, architecture: str) -> None:
    torch.manual_seed(0)
    adapter = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    adapted = get_peft_model(architectures.tiny_model(architecture).bfloat16(), adapter)
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    save_whole_weights(adapted, tmp_path)
    after = adapted.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    expected = adapted.merge_and_unload().state_dict()
    assert merged.keys() == expected.keys()
    assert all(torch.equal(merged[name], expected[name]) for name in merged)


def test_an_adapter_that_is_more_than_merged_weights_is_refused(tmp_path: Path) -> None:
    for adapter in (LoraConfig(r=2, modules_to_save=["lm_head"]), PromptTuningConfig(num_virtual_tokens=2)):
        adapter.task_type = "CAUSAL_LM"
        with pytest.raises(SamplingError, match="does not merge into the student's own weights"):
            save_whole_weights(get_peft_model(tiny_model(), adapter), tmp_path)


def through(monkeypatch: pytest.MonkeyPatch, server: FakeSamplingServer) -> dict[str, Any]:
    """What makes a trainer sample through ``server``, which must be near."""
    monkeypatch.setattr(rounds, "VllmSampler", partial(VllmSampler, transport=server.transport))
    return {"sampler_url": URL, "sampler_tolerance": 1e-4, "learning_rate": 1e-2, "max_steps": 3}


def test_a_run_loads_its_weights_before_each_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeSamplingServer(max_model_len=256)
    trainer(tmp_path, RuleTeacher(), **through(monkeypatch, server)).train()
    assert server.loads == 3
    assert len(server.requests) == 3 * 3


def test_a_run_that_lost_its_server_ends_as_if_it_had_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how = through(monkeypatch, FakeSamplingServer(max_model_len=256))
    whole = trainer(tmp_path / "whole", RuleTeacher(), **how, save_steps=100)
    whole.train()
    away = FakeSamplingServer(max_model_len=256)

    def dying(request: httpx.Request) -> httpx.Response:
        if away.loads < 2:
            return away.load(Path(json.loads(request.content)["kwargs"]["weights_path"]))
        raise httpx.ConnectError("gone")

    away.instead["/collective_rpc"] = dying
    with pytest.raises(SamplerUnreachable):
        trainer(tmp_path / "cut", RuleTeacher(), **through(monkeypatch, away), save_steps=100).train()
    how = through(monkeypatch, FakeSamplingServer(max_model_len=256))
    continued = trainer(tmp_path / "cut", RuleTeacher(), **how, save_steps=100)
    checkpoint = newest_whole(tmp_path / "cut")
    assert checkpoint == tmp_path / "cut" / "checkpoint-2"
    continued.train(resume_from_checkpoint=checkpoint)
    assert torch.equal(weights(whole), weights(continued))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "cut")


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how = through(monkeypatch, FakeSamplingServer())
    monkeypatch.setattr(PADConfig, "world_size", 2)
    with pytest.raises(ConfigError, match="samples for one process only"):
        trainer(tmp_path, RuleTeacher(), **how)


def test_a_run_may_go_on_with_another_server_or_none(tmp_path: Path) -> None:
    settings = {"model": str(tmp_path), "prompts": "p", "output_dir": tmp_path, "teacher": "http://127.0.0.1:1"}
    asked = [
        decisive_settings(DistillSettings(**settings, sampler_url=sampler_url))
        for sampler_url in (URL, "http://127.0.0.1:8001", None)
    ]
    assert asked[0] == asked[1] == asked[2]

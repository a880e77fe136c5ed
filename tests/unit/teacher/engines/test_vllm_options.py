"""Arguments for vLLM: their sources, and those that are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from pad_teacher.engines.vllm import checkpoint
from pad_teacher.engines.vllm.options import BYTES_PER_LOGIT, BadOption, check, headroom
from pad_teacher.settings import BadSettings, read_settings

KNOWN = [
    "tensor_parallel_size",
    "kv_cache_dtype",
    "model",
    "max_logprobs",
    "load_format",
    "enable_prefix_caching",
    "_internal",
]
GIB = 2**30


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("tensor_paralel_size", 4, r"--vllm\.tensor-paralel-size: .*mean --vllm\.tensor-parallel-size\?"),
        ("zzz", 1, r"--vllm\.zzz: vLLM has no such argument$"),
        ("_internal", 1, "no such argument"),
        ("model", "m", "use --model"),
        ("max_logprobs", 1, "the service sets it"),
        ("kv_cache_dtype", "fp8", "every score"),
        ("load_format", "dummy", "random numbers"),
    ],
)
def test_a_misspelt_or_harmful_argument_is_refused_in_one_line(name: str, value: Any, said: str) -> None:
    with pytest.raises(BadOption, match=said) as refused:
        check({name: value}, KNOWN)
    assert "\n" not in str(refused.value)


def test_all_other_arguments_are_taken() -> None:
    check(
        {"tensor_parallel_size": 4, "enable_prefix_caching": False, "kv_cache_dtype": "auto", "load_format": "auto"},
        KNOWN,
    )


def test_vllm_flags_win_over_environment_and_that_over_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "teacher.yaml"
    file.write_text("model: m\nengine: vllm\nvllm:\n  tensor_parallel_size: 8\n  seed: 1\n  max_num_seqs: 9\n")
    monkeypatch.setenv("PAD_TEACHER_VLLM__TENSOR_PARALLEL_SIZE", "2")
    monkeypatch.setenv("PAD_TEACHER_VLLM__SEED", "5")
    settings = read_settings(["--config", str(file), "--vllm.seed", "3"])
    assert settings.vllm == {"tensor_parallel_size": 2, "seed": 3, "max_num_seqs": 9}


@pytest.mark.parametrize("flag", ["--vllm.max-num-seqs", "--vllm.max_num_seqs", "--vllm.MAX_NUM_SEQS", "--vllm"])
@pytest.mark.parametrize("spelled", ["max-num-seqs", "max_num_seqs", "MAX-NUM-SEQS"])
def test_sources_are_ranked_however_they_spell_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str, spelled: str
) -> None:
    file = tmp_path / "teacher.yaml"
    file.write_text(f"model: m\nengine: vllm\nvllm:\n  {spelled}: 1\n")
    value = json.dumps({spelled: 3}) if flag == "--vllm" else "3"
    assert read_settings(["--config", str(file)]).vllm == {"max_num_seqs": 1}
    assert read_settings(["--config", str(file), flag, value]).vllm == {"max_num_seqs": 3}
    for variable, text in (("PAD_TEACHER_VLLM__MAX_NUM_SEQS", "2"), ("PAD_TEACHER_VLLM", json.dumps({spelled: 2}))):
        with monkeypatch.context() as patch:
            patch.setenv(variable, text)
            assert read_settings(["--config", str(file)]).vllm == {"max_num_seqs": 2}
            assert read_settings(["--config", str(file), flag, value]).vllm == {"max_num_seqs": 3}


def test_a_vllm_flag_has_two_spellings_and_holds_any_value() -> None:
    flags = ["--vllm.tensor-parallel-size=4", "--vllm.enforce_eager", "--vllm.block-size", "32", "--port", "1"]
    flags += ["--vllm.hf-overrides", '{"rope_theta": 1.5}', "--vllm.quantization", "fp8", "--vllm.seed", "-1"]
    settings = read_settings(["--model", "m", "--engine", "vllm", *flags])
    assert settings.port == 1
    assert settings.vllm == {
        "tensor_parallel_size": 4,
        "enforce_eager": True,
        "block_size": 32,
        "hf_overrides": {"rope_theta": 1.5},
        "quantization": "fp8",
        "seed": -1,
    }


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--vllm.seed", "1"], "--vllm.seed needs --engine vllm"),
        (["--engine", "vllm", "--device", "cuda:1"], "--device"),
        (["--engine", "vllm", "--vllm", '{"seed": 1, "SEED": 2}'], "two spellings"),
    ],
)
def test_settings_that_do_not_fit_together_are_one_line(flags: list[str], said: str) -> None:
    with pytest.raises(BadSettings, match=said) as refused:
        read_settings(["--model", "m", *flags])
    assert "\n" not in str(refused.value)


def plan(**changes: Any) -> Any:
    usual = {
        "vocabulary": 152_064,
        "batch_tokens": 8192,
        "context_tokens": 32_768,
        "device_bytes": 80 * GIB,
        "gpu_memory_utilization": 0.92,
        "rows_at_once": None,
    }
    return headroom(**(usual | changes))


def test_memory_stays_free_for_the_log_softmax_of_a_full_batch() -> None:
    planned = plan()
    assert planned.batch_tokens == 8192
    assert planned.log_softmax_bytes == 8192 * 152_064 * BYTES_PER_LOGIT
    assert (1 - planned.gpu_memory_utilization) * 80 * GIB > planned.log_softmax_bytes


def test_a_step_shrinks_if_its_log_softmax_would_take_too_much() -> None:
    planned = plan(device_bytes=24 * GIB)
    assert 256 <= planned.batch_tokens < 8192
    assert planned.log_softmax_bytes <= 0.15 * 24 * GIB


def test_short_contexts_and_runners_that_take_chunks_need_less() -> None:
    assert plan(context_tokens=2048).log_softmax_bytes == 2048 * 152_064 * BYTES_PER_LOGIT
    assert plan(rows_at_once=1024).log_softmax_bytes == 1024 * 152_064 * BYTES_PER_LOGIT
    assert plan(rows_at_once=1024, device_bytes=24 * GIB).batch_tokens == 8192


def test_a_lower_utilization_is_kept() -> None:
    assert plan(gpu_memory_utilization=0.5).gpu_memory_utilization == 0.5


def test_a_vocabulary_that_cannot_fit_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="use a larger device") as refused:
        plan(device_bytes=GIB)
    assert "\n" not in str(refused.value)


def make_checkpoint(folder: Path, weights: bytes = b"w", **config: Any) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"hidden_size": 8} | config))
    (folder / "model-1.safetensors").write_bytes(weights)
    (folder / "model-2.safetensors").write_bytes(b"more")
    return folder


def test_the_digest_is_that_of_the_files_and_not_of_their_place(tmp_path: Path) -> None:
    one = make_checkpoint(tmp_path / "one", _name_or_path="here", transformers_version="5.1")
    two = make_checkpoint(tmp_path / "two", transformers_version="5.2")
    settings = {"dtype": "bfloat16"}
    assert checkpoint.digest(one, settings) == checkpoint.digest(two, settings)
    others = [
        checkpoint.digest(one, {"dtype": "float32"}),
        checkpoint.digest(make_checkpoint(tmp_path / "three", b"x"), settings),
        checkpoint.digest(make_checkpoint(tmp_path / "four", hidden_size=9), settings),
    ]
    assert len({checkpoint.digest(one, settings), *others}) == 4


def test_a_directory_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no weights"):
        checkpoint.digest(tmp_path, {})
    assert checkpoint.directory_of(str(tmp_path), None) == tmp_path

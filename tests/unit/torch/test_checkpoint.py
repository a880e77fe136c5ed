"""A model is the checkpoint's own in every weight, or it is refused in one line; adapters are as peft loads them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from pad_torch.checkpoint import load_model, own_memory
from pad_torch.context_length import context_length
from pad_torch.findings import NotAsSaved

WEIGHTS = "model.safetensors"
IDS = torch.tensor([[1, 5, 9, 2]])


def saved(folder: Path, tied: bool = False) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=48,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=tied,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.double().eval()(IDS).logits


def changed(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def test_a_whole_checkpoint_loads_to_the_bit(tmp_path: Path) -> None:
    folder = str(saved(tmp_path))
    assert torch.equal(logits(load_model(folder)), logits(AutoModelForCausalLM.from_pretrained(folder)))


@pytest.mark.parametrize("name", ["lm_head.weight", "model.norm.weight", "model.layers.1.mlp.up_proj.weight"])
def test_a_missing_weight_is_refused_by_name(tmp_path: Path, name: str) -> None:
    folder = changed(saved(tmp_path), lambda weights: weights.__delitem__(name))
    with pytest.raises(NotAsSaved, match=f"lacks the weight {name}"):
        load_model(str(folder))


def test_a_weight_left_over_is_refused_unless_allowed(tmp_path: Path) -> None:
    folder = changed(saved(tmp_path), lambda weights: weights.update({"v_head.weight": torch.zeros(1, 16)}))
    with pytest.raises(NotAsSaved, match=r"v_head\.weight.*--allow unused-weights"):
        load_model(str(folder))
    load_model(str(folder), allow=["unused-weights"])


def test_a_weight_of_another_shape_is_refused_by_name(tmp_path: Path) -> None:
    folder = changed(saved(tmp_path), lambda weights: weights.update({"model.norm.weight": torch.ones(8)}))
    with pytest.raises(NotAsSaved, match=r"model\.norm\.weight in another shape"):
        load_model(str(folder))


def test_frequencies_that_old_checkpoints_hold_do_no_harm(tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    load_model(str(changed(saved(tmp_path), lambda weights: weights.update({name: torch.ones(4)}))))


def test_a_truncated_file_is_one_line(tmp_path: Path) -> None:
    path = saved(tmp_path) / WEIGHTS
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(OSError, match="cannot be read") as caught:
        load_model(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_missing_shard_is_refused(tmp_path: Path) -> None:
    load_model(str(saved(tmp_path / "whole"))).save_pretrained(tmp_path / "sharded", max_shard_size="8KB")
    shards = sorted((tmp_path / "sharded").glob("model-*.safetensors"))
    assert torch.equal(logits(load_model(str(tmp_path / "sharded"))), logits(load_model(str(tmp_path / "whole"))))
    shards[0].unlink()
    with pytest.raises((OSError, NotAsSaved)):
        load_model(str(tmp_path / "sharded"))


@pytest.mark.parametrize("name", ["model.gguf", ""])
def test_a_gguf_file_is_told_how_to_convert(tmp_path: Path, name: str) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ValueError, match=r"model\.gguf is a GGUF file.*save_pretrained"):
        load_model(str(tmp_path / name))


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["q_proj"]},
        {"target_modules": ["q_proj"], "use_dora": True},
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    ],
    ids=["lora", "dora", "head", "embeddings", "modules_to_save"],
)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning:peft")
def test_an_adapter_is_as_peft_itself_loads_it(tmp_path: Path, options: dict[str, Any], tied: bool) -> None:
    base = str(saved(tmp_path / "base", tied))
    adapted = get_peft_model(load_model(base), LoraConfig(r=2, init_lora_weights=False, **options))
    for name, weight in adapted.named_parameters():
        if "magnitude" in name or "modules_to_save" in name:
            weight.data += 0.1 * torch.randn_like(weight)
    adapted.save_pretrained(tmp_path / "adapter")
    right = logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(tmp_path / "adapter")))
    assert (logits(load_model(str(tmp_path / "adapter"))) - right).abs().max() < 1e-4
    assert (right - logits(load_model(base))).abs().max() > 1e-3, "the adapter changes something"


@pytest.mark.filterwarnings("ignore:Could not find a config file")
def test_an_adapter_on_an_adapter_names_it_as_its_base(tmp_path: Path) -> None:
    base = load_model(str(saved(tmp_path / "base")))
    get_peft_model(base, LoraConfig(r=2, init_lora_weights=False, target_modules=["q_proj"])).save_pretrained(
        tmp_path / "first"
    )
    second = get_peft_model(
        load_model(str(tmp_path / "first")), LoraConfig(r=2, init_lora_weights=False, target_modules=["v_proj"])
    )
    second.save_pretrained(tmp_path / "second")
    assert (logits(load_model(str(tmp_path / "second"))) - logits(second)).abs().max() < 1e-4


def test_an_adapter_of_prompts_is_refused(tmp_path: Path) -> None:
    base = load_model(str(saved(tmp_path / "base")))
    get_peft_model(base, PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")).save_pretrained(
        tmp_path / "a"
    )
    with pytest.raises(ValueError, match="adds positions of its own"):
        load_model(str(tmp_path / "a"))


def test_an_adapter_whose_base_is_away_names_both(tmp_path: Path) -> None:
    base = saved(tmp_path / "base")
    get_peft_model(load_model(str(base)), LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "a")
    base.rename(tmp_path / "moved")
    with pytest.raises(OSError, match=f"base model {base} of the adapter"):
        load_model(str(tmp_path / "a"))


def test_weights_no_longer_follow_their_file(tmp_path: Path) -> None:
    model = load_model(str(saved(tmp_path)))
    own_memory(model)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    content = (tmp_path / WEIGHTS).read_bytes()
    with (tmp_path / WEIGHTS).open("r+b") as file:
        file.write(content[:-4096] + b"\x3f" * 4096)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


@pytest.mark.parametrize(
    ("rope", "length"),
    [
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}, 2048),
        ({"rope_type": "yarn", "factor": 4.0}, 2048),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 64}, 512),
        ({"rope_type": "default"}, 512),
    ],
)
def test_yarn_makes_the_context_longer(rope: dict[str, Any], length: int) -> None:
    config = LlamaConfig(max_position_embeddings=512)
    config.rope_parameters = rope
    assert context_length(config) == length


# pyright: standard

"""After a run: an adapter becomes one model, a model can be talked to, and weights can be read by others."""

import io
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from pad_student.commands import chat, merge
from pad_student.commands.settings import ChatSettings, MergeSettings
from pad_student.errors import OtherRun, SamplingError
from pad_student.sampling.generate import load_student
from pad_student.storage.modes import readable_as_umask_says
from support.tiny_student import save_tiny_student, tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_student(tmp_path_factory.mktemp("student"), context=256))


@pytest.fixture
def adapter(base: str, tmp_path: Path) -> Path:
    """An adapter that changes its base."""
    import torch
    from peft import LoraConfig, get_peft_model

    model: Any = tiny_model(256)
    model.name_or_path = base
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(weight, 0.3)
    adapted.save_pretrained(tmp_path / "adapter")
    tiny_tokenizer().save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_a_merged_adapter_is_one_model_with_its_numbers(adapter: Path, base: str, tmp_path: Path) -> None:
    import torch

    merge.run(MergeSettings(model=str(adapter), out=tmp_path / "merged"))
    assert not list((tmp_path / "merged").glob("adapter*"))
    ids = torch.tensor([[2, 7, 8, 4, 3, 9]])
    logits = {name: load_student(str(name)).model(ids).logits for name in (adapter, tmp_path / "merged", base)}
    torch.testing.assert_close(logits[tmp_path / "merged"], logits[adapter])
    assert (logits[adapter] - logits[base]).abs().max() > 0.01


def test_merge_refuses_what_is_no_adapter_and_overwrites_nothing(adapter: Path, base: str, tmp_path: Path) -> None:
    with pytest.raises(SamplingError, match="a whole model already"):
        merge.run(MergeSettings(model=base, out=tmp_path / "merged"))
    with pytest.raises(SamplingError, match="no such adapter"):
        merge.run(MergeSettings(model="nowhere", out=tmp_path / "merged"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(OtherRun, match="is not empty"):
        merge.run(MergeSettings(model=str(adapter), out=tmp_path / "full"))


def test_each_line_is_answered_within_one_conversation(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    student, asked = load_student(base), []
    plain = type(student.encoder).prompt_ids

    def prompt_ids(encoder: Any, prompt: Any) -> list[int]:
        asked.append([(each.role, each.content) for each in prompt])
        return plain(encoder, prompt)

    monkeypatch.setattr(type(student.encoder), "prompt_ids", prompt_ids)
    settings = ChatSettings(model=base, system="be kind", max_new_tokens=4)
    written = []
    for _ in range(2):
        out = io.StringIO()
        chat.talk(settings, student, iter(["count to", "and then?", "/new", "count to"]), out)
        written.append(out.getvalue())
    assert written[0] == written[1], "the same seed and lines give the same answers"
    assert written[0].count("\n") == 3
    first, second, anew = asked[:3]
    assert first == anew == [("system", "be kind"), ("user", "count to")]
    assert [role for role, _ in second] == ["system", "user", "assistant", "user"]


def test_a_conversation_that_fills_the_context_is_one_line(base: str) -> None:
    settings = ChatSettings(model=base, max_new_tokens=4)
    with pytest.raises(SamplingError, match="fills the context of 256 tokens"):
        chat.talk(settings, load_student(base), iter(["a" * 300]), io.StringIO())


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_weights_have_the_mode_that_umask_says(umask: int, mode: int, tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.touch(0o600)
    before = os.umask(umask)
    try:
        readable_as_umask_says(tmp_path)
        assert os.umask(umask) == umask, "the umask stays"
    finally:
        os.umask(before)
    assert stat.S_IMODE(weights.stat().st_mode) == mode

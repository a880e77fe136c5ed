"""The ends that a model declares: in its generation config, its config, both or neither."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from pad_torch.declared_ends import declared_ends, saved_ends
from support.tiny import tiny_model


@pytest.mark.parametrize(("generation", "config", "ends"), [(7, [1, 2], {1, 2, 7}), (None, 3, {3}), ([4], None, {4})])
def test_ends_of_both_configs_count(tmp_path: Path, generation: object, config: object, ends: set[int]) -> None:
    settings = tiny_model().config.to_dict() | {"eos_token_id": config}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert saved_ends(str(tmp_path)) == ends - {7, 4}  # there is no generation config yet
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    assert saved_ends(str(tmp_path)) == ends


def test_a_model_may_declare_no_end() -> None:
    assert declared_ends(None, SimpleNamespace(eos_token_id=None)) == set()


def test_an_adapter_has_the_ends_of_its_base(tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    base.mkdir()
    adapter.mkdir()
    (base / "config.json").write_text(json.dumps(tiny_model().config.to_dict() | {"eos_token_id": [1, 2]}))
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    assert saved_ends(str(adapter)) == {1, 2}

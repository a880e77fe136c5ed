"""What a trial of a model finds, and evaluation mode during it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pad_torch.modes import evaluating
from pad_torch.trials import trial_ids, why_not_equal, why_not_kinds, why_not_windows
from support.tiny import tiny_model

FULL, SLIDING = "full_attention", "sliding_attention"


def config(**settings: Any) -> Any:
    return SimpleNamespace(**{"num_hidden_layers": 2} | settings)


@pytest.mark.parametrize(
    ("settings", "told", "reason"),
    [
        ({}, [None, None], None),
        ({}, [None], "1 of its 2 layers"),
        ({"sliding_window": 8}, [8, 8], None),
        ({"sliding_window": 8}, [8, None], "how far their windows reach"),
        ({"sliding_window": 8, "layer_types": [SLIDING, FULL]}, [8, None], None),
        ({"sliding_window": 8, "layer_types": [SLIDING, FULL]}, [4, None], "how far their windows reach"),
    ],
)
def test_each_layer_must_say_how_far_it_looks(settings: Any, told: list[int | None], reason: str | None) -> None:
    found = why_not_windows(config(**settings), told)
    assert found is None if reason is None else reason in str(found)


def test_other_kinds_of_layers_are_named() -> None:
    assert why_not_kinds(config()) is None
    assert why_not_kinds(config(layer_types=[FULL, "linear"])) == "it has layers of the kinds full_attention, linear"


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-2), (torch.bfloat16, 0.2)])
def test_states_may_differ_by_rounding_alone(dtype: torch.dtype, error: float) -> None:
    plain = torch.randn(4, 8).to(dtype)
    assert why_not_equal(plain.clone(), plain) is None
    assert "differ by" in str(why_not_equal(plain * (1 + error), plain))
    assert "differ by" in str(why_not_equal(plain * float("nan"), plain))


def test_trial_ids_are_always_the_same_and_known_to_the_model() -> None:
    assert trial_ids(50, 20) == trial_ids(50, 20)
    assert 0 <= min(trial_ids(50, 200)) <= max(trial_ids(50, 200)) < 50


def test_each_module_gets_its_own_mode_back_after_an_error() -> None:
    model = tiny_model().train()
    model.model.norm.eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert model.training
    with pytest.raises(RuntimeError), evaluating(model):
        raise RuntimeError
    assert model.training
    assert not model.model.norm.training

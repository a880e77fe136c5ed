"""How many tokens a model's context holds, with what its config says of longer positions."""

from typing import Any


def context_length(config: Any) -> int | None:
    """Tokens that fit the context; None if the config states no length.

    ``max_position_embeddings`` may be that of the training before ``yarn`` stretched the positions: model cards turn
    yarn on by a factor alone.
    """
    text = config.get_text_config()
    stated: int | None = getattr(text, "max_position_embeddings", None)
    rope: Any = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    if stated is None or rope.get("rope_type") != "yarn":
        return stated
    original = rope.get("original_max_position_embeddings") or stated
    return max(stated, int(original * rope.get("factor", 1)))


# pyright: standard

"""Text that can be encoded as UTF-8, and the strict base of all wire models."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict


class WireModel(BaseModel):
    """Strict: unknown fields, NaN, infinities and booleans or strings for numbers are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """The fields that have a value: most of a result's were not asked for."""
        return [(name, value) for name, value in super().__repr_args__() if value is not None]


def _without_lone_surrogates(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("text holds a lone surrogate, which no tokenizer can read") from None
    return text


Text = Annotated[str, AfterValidator(_without_lone_surrogates)]

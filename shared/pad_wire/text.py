"""Text that can be encoded as UTF-8, and the strict base of all wire models."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


class WireModel(BaseModel):
    """Strict: unknown fields, NaN, infinities and booleans or strings for numbers are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


def _without_lone_surrogates(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("text holds a lone surrogate, which no tokenizer can read") from None
    return text


Text = Annotated[str, AfterValidator(_without_lone_surrogates)]

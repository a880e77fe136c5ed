"""Replies and requests as safetensors: a reply is written part by part, and never held whole as bytes."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from pad_teacher.errors import Refusal
from pad_wire.text import WireModel
from pad_wire.validation import parse

Asked = TypeVar("Asked", bound=WireModel)

CODES = {"float32": "F32", "float16": "F16", "uint32": "U32"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a reply: its parts, one after the other, are its rows. They are cast when they are written."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    parts: Sequence[NDArray[Any]]

    @property
    def size(self) -> int:
        """Its bytes as written."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class TensorReply:
    """A reply of many numbers: its tensors and metadata, or the same as JSON."""

    tensors: Sequence[Tensor]
    metadata: Mapping[str, str]
    as_json: Callable[[], WireModel]

    def header(self) -> bytes:
        """The beginning of the file: the length of its description, and the description."""
        described: dict[str, Any] = {"__metadata__": dict(self.metadata)}
        start = 0
        for tensor in self.tensors:
            stop = start + tensor.size
            described[tensor.name] = {
                "dtype": CODES[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [start, stop],
            }
            start = stop
        text = json.dumps(described, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return len(self.header()) + sum(tensor.size for tensor in self.tensors)

    def chunks(self, chunk_bytes: int) -> Iterator[bytes]:
        """The file in chunks of about ``chunk_bytes``."""
        held = bytearray(self.header())
        for tensor in self.tensors:
            for part in tensor.parts:
                held += np.ascontiguousarray(part, np.dtype(tensor.dtype).newbyteorder("<")).tobytes()
                if len(held) >= chunk_bytes:
                    yield bytes(held)
                    held.clear()
        yield bytes(held)


@dataclass(frozen=True, slots=True)
class TensorRequest(Generic[Asked]):
    """A request whose arrays came as tensors."""

    request: Asked
    tensors: dict[str, NDArray[Any]]


def read_tensor_request(model: type[Asked], body: bytes | bytearray) -> TensorRequest[Asked]:
    """Read a request in safetensors: its metadata ``request`` is the JSON of ``model``.

    Raises:
        InvalidBody: if that is not of the model.
        Refusal: ``invalid_request`` if the file is not whole.
    """
    try:
        length = int.from_bytes(body[:8], "little")
        description: Any = json.loads(bytes(body[8 : 8 + length])) if length <= len(body) else None
        text = str(description["__metadata__"]["request"])
        tensors = load(bytes(body))
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError):
        message = "the body is not a whole safetensors file with the metadata request"
        raise Refusal("invalid_request", message) from None
    return TensorRequest(parse(model, text.encode()), tensors)

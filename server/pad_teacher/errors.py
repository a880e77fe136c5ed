"""``Refusal`` and the errors of start-up; codes and statuses are in ``pad_wire/errors.py``.

Exception
├── Refusal                one request is not served; ``api/middleware.py`` turns it into the reply
├── TeacherError           an operator can mend it; the message is one line
│   ├── BadSettings        settings.py               a setting is unknown, missing or wrong
│   ├── KeyFileError       admission/keys.py         the key file cannot be read or changed
│   ├── UsageFileError     admission/usage_file.py   the usage file cannot be read or written
│   ├── CannotServe        errors.py                 the model cannot be loaded or cannot be scored with
│   ├── BadOption          engines/vllm/options.py   vLLM has no such argument, or it cannot be given
│   └── GoldenMismatch     scoring/golden_check.py   the engine's numbers are not the model's
└── RuntimeError
    ├── EngineFailed       engines/base.py           the runtime is broken; the process ends
    └── RowTooLarge        engines/base.py           one row does not fit the device; it becomes a Refusal
"""

from pad_wire import RETRYABLE, STATUS, ErrorCode, ErrorDetail


class TeacherError(Exception):
    """An operator can mend it. The message is one line that names the thing and the remedy."""


class CannotServe(TeacherError):
    """The model cannot be loaded, or has a property that this service cannot score with."""


class Refusal(Exception):
    """One request is not served. No text of the request is in the message, unless a chat template quotes it.

    ``retry_after_s`` becomes the header ``Retry-After``. ``retryable`` overrides what ``code`` implies.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        where: str | None = None,
        retry_after_s: int | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.status = STATUS[code]
        self.retry_after_s = retry_after_s
        self.detail = ErrorDetail(
            code=code,
            message=message,
            retryable=code in RETRYABLE if retryable is None else retryable,
            where=where,
        )

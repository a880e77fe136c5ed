"""Why a request is not served, as the code does it: raised anywhere, answered in one place."""

from pad_wire import RETRYABLE, STATUS, ErrorCode, ErrorDetail


class Refusal(Exception):
    """A request that is not served; its message never repeats the request's own text."""

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

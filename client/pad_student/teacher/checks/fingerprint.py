"""One teacher for a whole run: the first fingerprint seen, or the one that a continued run began with."""

from threading import Lock

from pad_student.teacher.errors import TeacherChanged, TeachersDiffer


class FingerprintGuard:
    """Refuses the numbers of another teacher; thread-safe.

    Invariants:
        - ``fingerprint`` is set once, by the constructor, by ``pin`` or by the first reply, and then stays.
        - ``check`` returns only for a reply with that fingerprint.

    Args:
        fingerprint: the teacher that a continued run began with; None takes the first one seen.
        role: how messages call the service.
    """

    def __init__(self, fingerprint: str | None, role: str = "teacher") -> None:
        self.fingerprint = fingerprint
        self._role = role
        self._seen_at: dict[str, None] = {}  # URLs that sent the fingerprint, in order
        self._lock = Lock()

    def pin(self, fingerprint: str) -> None:
        """Accept this teacher alone.

        Raises:
            TeacherChanged: if another one has answered already.
        """
        with self._lock:
            if self.fingerprint not in (None, fingerprint):
                raise TeacherChanged(
                    f"the scores so far are of {fingerprint}, but the {self._role} is {self.fingerprint}"
                )
            self.fingerprint = fingerprint

    def check(self, fingerprint: str, url: str) -> None:
        """Accept a reply's fingerprint, or refuse the reply.

        Raises:
            TeachersDiffer: if another replica has sent another fingerprint.
            TeacherChanged: if it is another one than the run began with.
        """
        with self._lock:
            if self.fingerprint is None:
                self.fingerprint = fingerprint
            if fingerprint == self.fingerprint:
                self._seen_at[url] = None
                return
            other = next((each for each in self._seen_at if each != url), None)
        if other:
            raise TeachersDiffer(
                f"the {self._role} at {url} is {fingerprint}, but the one at {other} is {self.fingerprint}; "
                "serve the same model, tokenizer, template and dtype at both, or leave one out"
            )
        raise TeacherChanged(
            f"the {self._role} at {url} changed from {self.fingerprint} to {fingerprint}; "
            "bring the first one back, or begin a new output"
        )

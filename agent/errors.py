"""One tree of errors, each with the operator's next step.

An error that a person can meet carries a message that names the thing and its
value, and a hint that says what to do. Secrets never stand in either.
"""


class SplitguardError(Exception):
    """Something went wrong that a person should read."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(SplitguardError):
    """The configuration cannot be used. Carries every problem at once."""

    def __init__(self, problems: tuple[str, ...], hint: str = "") -> None:
        super().__init__("\n".join(problems), hint)
        self.problems = problems


class JournalError(SplitguardError):
    """The journal cannot be read or written."""


class JournalFullError(JournalError):
    """There is no room for what the journal should write."""


class PostgresError(SplitguardError):
    """A server, one of its programs or one of its files did not do as asked."""


class CaptureError(SplitguardError):
    """A capture cannot start, go on or finish."""


class NoRoomError(CaptureError):
    """What a capture would write does not fit."""

    def __init__(self, message: str, hint: str = "", *, missing_bytes: int) -> None:
        super().__init__(message, hint)
        self.missing_bytes = missing_bytes


class SnapshotError(SplitguardError):
    """A snapshot is not there, not whole, or not what it says it is."""


class CatalogueError(SnapshotError):
    """The capture folder itself is not there or cannot be read."""


class DivergenceError(SplitguardError):
    """What a losing side wrote cannot be found out, told or given back."""


class AgentUnreachableError(SplitguardError):
    """The agent does not answer on its socket or address."""


class ManagerError(SplitguardError):
    """A manager refused, did not answer as agreed, or cannot do it."""

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        status: int | None = None,
        code: str = "",
    ) -> None:
        super().__init__(message, hint)
        self.status = status
        """The HTTP status; None when there was no answer."""
        self.code = code
        """The manager's own `error_code`; empty when it gave none."""


class GuardError(SplitguardError):
    """The gate in front of a resync cannot be put up, looked at or taken away."""


class LabError(SplitguardError):
    """The lab cannot do that."""


class DeliveryError(SplitguardError):
    """A receiver did not take a message."""

    def __init__(
        self,
        message: str,
        *,
        permanent: bool,
        retry_after_s: float | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint)
        self.permanent = permanent
        self.retry_after_s = retry_after_s


class CodecError(SplitguardError):
    """Text from a file or a peer does not have the shape that it should have."""

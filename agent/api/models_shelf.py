"""The shapes of what people decide about snapshots, and of what became of them."""

from agent.api.models import Answer, Question, Sentence, Word


class KeptOut(Answer):
    """Who keeps a snapshot from being pruned."""

    who: str
    reason: str
    since: str


class OffsiteOut(Answer):
    """What became of a snapshot's archive off-site."""

    url: str | None
    """Where it lies; null until it was read back there."""
    bytes: int
    sha256: str | None
    verified: str | None
    """When it was read back and was what had been sent."""
    attempts: int
    """That failed in a row."""
    error: str | None


class PinIn(Question):
    """Keep a snapshot, whatever the retention says."""

    reason: Sentence
    who: Word | None = None
    """Defaults to the name of the token."""


class DigestOut(Answer):
    """What an archive must be once it was fetched."""

    id: str
    bytes: int
    sha256: str
    etag: str
    """Of the archive that this is the digest of."""


class RemovedOut(Answer):
    """A snapshot that was removed, and what had spoken against it."""

    id: str
    who: str
    reason: str
    overruled: list[str]

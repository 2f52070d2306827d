"""A channel that posts signed JSON to one address.

Theory of operation. 2xx means taken. Anything else is a failure: a redirect too,
since following one would hand the message to somebody else. 408, 429 and 5xx may
pass, and a Retry-After is honoured; other 4xx, 410 above all, say that the receiver
will not have it, which ends after a few more attempts. The address can be a secret,
so errors name only its host.
"""

from email.utils import parsedate_to_datetime

from agent.errors import DeliveryError
from agent.notify import signing
from agent.transport import Answer, HttpClient, Request, TransportError, place

DEADLINE_S = 10.0
"""A receiver that has not answered by then has not taken the message."""

RETRY_AFTER_LIMIT_S = 3600.0
PASSING = frozenset({408, 425, 429})
REDIRECTS = range(300, 400)
REFUSALS = range(400, 500)


class WebhookChannel:
    """Implements ports.NoticeChannel.

    Raises ConfigError when the secret is none.
    """

    def __init__(
        self, name: str, url: str, secret: str | None, http: HttpClient
    ) -> None:
        self._name = name
        self._url = url
        self._key = None if secret is None else signing.key_of(secret)
        self._http = http

    @property
    def name(self) -> str:
        """The name in the configuration."""
        return self._name

    async def deliver(self, notice_id: str, body: str, wall_s: float) -> None:
        """Post one message. Raises DeliveryError when it was not taken."""
        headers = signing.headers(self._key, notice_id, wall_s, body)
        headers["content-type"] = "application/json"
        request = Request("POST", self._url, headers, body.encode())
        try:
            answer = await self._http.request(request, DEADLINE_S)
        except TransportError as error:
            raise DeliveryError(
                f"{self._name}: {error.message}", permanent=False, hint=error.hint
            ) from error
        if not answer.ok:
            raise self._refused(answer, wall_s)

    def _refused(self, answer: Answer, wall_s: float) -> DeliveryError:
        where = f"{self._name}: {place(self._url)} answered HTTP {answer.status}"
        if answer.status in REDIRECTS:
            return DeliveryError(
                f"{where}, a redirect",
                permanent=False,
                hint="configure the address that it points to",
            )
        permanent = answer.status in REFUSALS and answer.status not in PASSING
        return DeliveryError(
            where,
            permanent=permanent,
            retry_after_s=retry_after_s(answer.headers.get("retry-after"), wall_s),
            hint="check the channel's address and secret" if permanent else "",
        )


def retry_after_s(value: str | None, wall_s: float) -> float | None:
    """Return how long a Retry-After asks to wait, at most an hour.

    Source: RFC 9110, 10.2.3: seconds, or a date.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - wall_s
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), RETRY_AFTER_LIMIT_S)

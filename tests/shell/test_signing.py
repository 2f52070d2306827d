"""Standard Webhooks signatures: what is signed holds, and nothing else does."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ConfigError
from agent.notify import signing

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = signing.key_of(SECRET)
NOW = 1_674_087_231.0


def signed(body: str = "{}", wall_s: float = NOW) -> dict[str, str]:
    return signing.headers(KEY, "msg-1", wall_s, body)


def test_the_signature_is_that_of_the_specification():
    """Secret, id, time, body and result are the example of the scheme's authors."""
    body = '{"test": 2432232314}'
    made = signing.signature(KEY, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_headers_can_be_checked_by_hand():
    made = signed("body")
    content = f"msg-1.{int(NOW)}.body".encode()
    digest = hmac.new(base64.b64decode(SECRET[6:]), content, hashlib.sha256).digest()
    assert made == {
        "webhook-id": "msg-1",
        "webhook-timestamp": str(int(NOW)),
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }


@given(st.text(), st.floats(0, 4e9))
def test_whatever_is_signed_is_verified(body, wall_s):
    made = {name.upper(): value for name, value in signed(body, wall_s).items()}
    assert signing.verify(KEY, made, body.encode(), wall_s) == "msg-1"


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "msg-2"},
        {"webhook-timestamp": str(int(NOW) + 1)},
        {"webhook-timestamp": "soon"},
        {"webhook-timestamp": ""},
        {"webhook-id": ""},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,%%%"},
        {"webhook-signature": "v2," + signed()["webhook-signature"][3:]},
    ],
    ids=str,
)
def test_a_changed_header_is_refused(change):
    with pytest.raises(signing.SignatureError):
        signing.verify(KEY, signed() | change, b"{}", NOW)


def test_a_changed_body_is_refused():
    with pytest.raises(signing.SignatureError, match="no webhook-signature fits"):
        signing.verify(KEY, signed(), b"{} ", NOW)


def test_another_secret_is_refused():
    other = signing.key_of("whsec_" + base64.b64encode(b"x" * 24).decode())
    with pytest.raises(signing.SignatureError):
        signing.verify(other, signed(), b"{}", NOW)


@pytest.mark.parametrize("seconds", [-301, 301])
def test_a_message_of_another_time_is_refused(seconds):
    with pytest.raises(signing.SignatureError, match="too far"):
        signing.verify(KEY, signed(), b"{}", NOW + seconds)


def test_one_of_several_signatures_is_enough():
    """A receiver's secret may be turned over while both are in use."""
    made = signed()
    made["webhook-signature"] = "v1,bm8= " + made["webhook-signature"]
    assert signing.verify(KEY, made, b"{}", NOW) == "msg-1"


@pytest.mark.parametrize("secret", ["whsec_!!!", "whsec_", "whsec_c2hvcnQ=", "hunter2"])
def test_a_secret_that_is_none_is_refused_without_showing_it(secret):
    with pytest.raises(ConfigError) as caught:
        signing.key_of(secret)
    assert secret.removeprefix("whsec_")[:5] not in str(caught.value) or not secret[6:]


def test_without_a_secret_nothing_is_signed():
    assert "webhook-signature" not in signing.headers(None, "msg-1", NOW, "{}")

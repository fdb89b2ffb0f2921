"""Signs every request for its own path, as callers of the API do."""

import base64
import hashlib
import hmac
import json
import os
import time
from urllib.parse import urlsplit

import schemathesis
from hypothesis import strategies as st
from requests.auth import AuthBase

KEY = os.environ["HUBWIRE_REST_KEY"].encode()


def part(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class AccessKey(AuthBase):
    def __call__(self, request):
        url = urlsplit(request.url)
        now = int(time.time())
        claims = {"nbf": now, "exp": now + 600, "iat": now, "aud": f"{url.scheme}://{url.netloc}{url.path}"}
        message = part(b'{"alg":"HS256","typ":"JWT"}') + "." + part(json.dumps(claims).encode())
        signature = hmac.new(KEY, message.encode(), hashlib.sha256).digest()
        request.headers["Authorization"] = f"Bearer {message}.{part(signature)}"
        return request


def framed(target, number):
    """A map with one message for each protocol: what the description can only call binary."""
    text = json.dumps({"type": 1, "target": target, "arguments": [number]}).encode() + b"\x1e"
    name = target.encode()
    body = b"\x96\x01\x80\xc0" + bytes([0xA0 | len(name)]) + name + b"\x91" + bytes([number]) + b"\x90"
    packed = bytes([len(body)]) + body
    entry = lambda key, value: bytes([0xA0 | len(key)]) + key + bytes([0xC4, len(value)]) + value
    return b"\x82" + entry(b"json", text) + entry(b"messagepack", packed)


TARGETS = st.text(alphabet="abcxyz", min_size=1, max_size=20)
schemathesis.openapi.media_type(
    "application/octet-stream", st.builds(framed, TARGETS, st.integers(min_value=0, max_value=100))
)

TEXTS = st.text(min_size=0, max_size=10).map(lambda text: "'" + text.replace("'", "''") + "'")
CLAUSES = st.one_of(
    TEXTS.map(lambda text: f"userId eq {text}"),
    TEXTS.map(lambda text: f"{text} in groups"),
    TEXTS.map(lambda text: f"not startswith(connectionId,{text})"),
    st.integers(min_value=0, max_value=9).map(lambda n: f"length(groups) gt {n}"),
)
schemathesis.openapi.format("odata-filter", st.lists(CLAUSES, min_size=1, max_size=4).map(" and ".join))

schemathesis.auth.set_from_requests(AccessKey())

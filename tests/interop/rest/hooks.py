"""Signs every request for its own path, as callers of the API do."""

import base64
import hashlib
import hmac
import json
import os
import time
from urllib.parse import urlsplit

import schemathesis
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


schemathesis.auth.set_from_requests(AccessKey())

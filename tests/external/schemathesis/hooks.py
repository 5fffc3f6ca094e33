"""What schemathesis cannot know of this API: whose token a request needs, and that neither a cursor nor the version of
a row can be made up.

The server runs with the secret that `PEACE_TEST_SECRET` holds, and its database gives each user a session with
the user's id, so that a token can be signed for whoever owns what a request is about. Other tests see to it that foreign ones are refused.
"""

import base64
import hashlib
import hmac
import json
import os
import time
import urllib.error
import urllib.request

import schemathesis
from hypothesis import strategies
from schemathesis import GenerationMode

# Datetimes without a zone (the OpenAPI initiative's registry of formats).
schemathesis.openapi.format("date-time-local", strategies.datetimes().map(lambda moment: moment.isoformat()))

NOBODY = "00000000-0000-4000-8000-000000000000"


@schemathesis.auth(refresh_interval=None)
class OwnersToken:
    """Signs a token for the owner of what the case is about."""

    def get(self, case, context):
        return token(owner(case))

    def set(self, case, data, context):
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}


@schemathesis.hook
def filter_case(context, case):
    """A cursor is the server's own; one that was made up is refused, though the schema lets it pass."""
    is_right = case.meta is None or case.meta.generation.mode == GenerationMode.POSITIVE
    query = case.query or {}
    if not is_right or query.get("cursor") is None:
        return True
    cursor = str(query["cursor"])
    orders = {"1a": "id", "1d": "-id"}
    return not is_made_up(cursor) and query.get("sort") in (None, orders.get(cursor[:2]))


@schemathesis.hook
def map_case(context, case):
    """An item belongs to a user who is there, a new password is none that many people have; a condition may fail, and a
    key belong to another request."""
    is_right = case.meta is None or case.meta.generation.mode == GenerationMode.POSITIVE
    if is_right and case.headers:
        for name in ("If-Match", "If-None-Match", "Idempotency-Key"):
            case.headers.pop(name, None)
    if is_right and case.operation.label == "POST /items" and isinstance(case.body, dict):
        users = asked(case, "/users?limit=1")["users"]
        case.body["user_pubid"] = users[0]["pubid"] if users else NOBODY
    if is_right and isinstance(case.body, dict):
        for name in ("password", "new"):
            if case.body.get(name):
                # As long as it was; none that is guessed first begins so.
                case.body[name] = "Ж" + str(case.body[name])[1:]
    return case


def is_made_up(cursor):
    """Ours are version and order (1a, 1d), then 48 digits, of which the first eight check all of it."""
    order, check, digits = cursor[:2], cursor[2:10], cursor[10:]
    try:
        rest = bytes.fromhex(digits)
    except ValueError:
        return True
    return check not in [hashlib.sha256(f"{one}{order}".encode() + rest).hexdigest()[:8] for one in ("users", "items")]


def owner(case):
    path = case.path_parameters or {}
    body = case.body if isinstance(case.body, dict) else {}
    pubid = path.get("pubid")
    if pubid and case.path.startswith("/items"):
        return owner_of_item(case, pubid)
    return pubid or body.get("user_pubid") or NOBODY


def owner_of_item(case, pubid):
    try:
        return asked(case, f"/items/{urllib.request.quote(str(pubid), safe='')}")["user_pubid"]
    except (urllib.error.URLError, ValueError):
        return NOBODY


def asked(case, target):
    base = case.operation.base_url.rstrip("/")
    with urllib.request.urlopen(base + target, timeout=10) as answer:
        return json.load(answer)


def token(user):
    now = int(time.time())
    claims = {
        "iss": "peace",
        "aud": "app",
        "sub": str(user),
        "sid": str(user),
        "iat": now,
        "exp": now + 60,
        "jti": "0193a3a0-0000-7000-8000-000000000001",
        "typ": "access",
    }
    text = ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    secret = os.environ["PEACE_TEST_SECRET"].encode()
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), 'sha256'))}"


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

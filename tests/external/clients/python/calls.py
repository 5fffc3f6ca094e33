"""Twenty-one calls with the client that openapi-python-client has made of the API document.

`calls.py URL` asks the server there, whose database has no user yet. Every answer is checked, by mypy for
what it may be, and here for what it is; the first that is wrong ends this with an error.
"""

import sys
from http import HTTPStatus
from typing import TypeVar
from uuid import uuid4

from generated.api.auth import auth_refresh, auth_token
from generated.api.items import items_create, items_delete, items_list, items_patch, items_read, items_replace
from generated.api.users import users_create, users_list, users_patch, users_read
from generated.client import AuthenticatedClient, Client
from generated.models import (
    CreateItem,
    CreateUser,
    ItemResponse,
    ItemsResponse,
    Login,
    PatchItem,
    PatchUser,
    Problem,
    Refresh,
    ReplaceItem,
    TokenResponse,
    UserResponse,
    UsersResponse,
)
from generated.types import UNSET, Response

PASSWORD = "correct horse"
T = TypeVar("T")


def right(kind: type[T], response: Response[T | Problem], status: HTTPStatus = HTTPStatus.OK) -> T:
    """What a success has told."""
    assert response.status_code == status, response
    assert isinstance(response.parsed, kind), response
    return response.parsed


def wrong(response: Response[T | Problem], status: HTTPStatus, code: str) -> Problem:
    """What a failure has told."""
    problem = response.parsed
    assert isinstance(problem, Problem), response
    assert (response.status_code, problem.status) == (status, status), response
    assert problem.type_.endswith(f"/problems/{code}"), problem
    assert problem.request_id == response.headers["x-request-id"], problem
    return problem


def sign_up(anybody: Client) -> UserResponse:
    body = CreateUser(name="ann", password=PASSWORD)
    ann = right(UserResponse, users_create.sync_detailed(client=anybody, body=body), HTTPStatus.CREATED)
    assert (ann.name, ann.fullname, ann.items) == ("ann", UNSET, UNSET), ann
    again = wrong(users_create.sync_detailed(client=anybody, body=body), HTTPStatus.CONFLICT, "name-taken")
    assert again.instance == "/users" and again.errors is UNSET, again

    invalid = users_create.sync_detailed(client=anybody, body=CreateUser(name="n" * 31, password="short"))
    problem = wrong(invalid, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-input")
    assert problem.errors, problem
    told = {(tuple(one.loc), one.type_, one.pointer) for one in problem.errors}
    assert told == {
        (("body", "name"), "string_too_long", "#/name"),
        (("body", "password"), "string_too_short", "#/password"),
    }, problem
    return ann


def log_in(anybody: Client) -> str:
    """An access token of ann's, the second one."""
    bad = auth_token.sync_detailed(client=anybody, body=Login(username="ann", password="battery staple"))
    assert wrong(bad, HTTPStatus.UNAUTHORIZED, "wrong-credentials").error == "invalid_grant", bad
    login = auth_token.sync_detailed(client=anybody, body=Login(username="ann", password=PASSWORD))
    tokens = right(TokenResponse, login)
    assert (tokens.token_type, tokens.expires_in) == ("bearer", 900), tokens
    refreshed = auth_refresh.sync_detailed(client=anybody, body=Refresh(refresh_token=tokens.refresh_token))
    return right(TokenResponse, refreshed).access_token


def read_users(anybody: Client, ann: UserResponse) -> UserResponse:
    """Another user; a page has one of two."""
    body = CreateUser(name="bob", password=PASSWORD, fullname="Bob Example")
    bob = right(UserResponse, users_create.sync_detailed(client=anybody, body=body), HTTPStatus.CREATED)
    first = right(UsersResponse, users_list.sync_detailed(client=anybody, limit=1))
    assert (first.users, first.page.limit) == ([ann], 1), first
    second = users_list.sync_detailed(client=anybody, limit=1, cursor=first.page.next_cursor)
    last = right(UsersResponse, second)
    assert (last.users, last.page.next_cursor) == ([bob], UNSET), last
    return bob


def write_items(caller: AuthenticatedClient, ann: UserResponse, bob: UserResponse) -> None:
    foreign = items_create.sync_detailed(client=caller, body=CreateItem(name="hat", user_pubid=bob.pubid))
    wrong(foreign, HTTPStatus.FORBIDDEN, "forbidden")
    created = [
        items_create.sync_detailed(client=caller, body=CreateItem(name=name, user_pubid=ann.pubid))
        for name in ("umbrella", "pen")
    ]
    umbrella, pen = (right(ItemResponse, one, HTTPStatus.CREATED) for one in created)
    assert created[0].headers["location"] == f"/items/{umbrella.pubid}", created

    page = right(ItemsResponse, items_list.sync_detailed(client=caller, user_pubid=ann.pubid, limit=1))
    assert page.items == [umbrella], page
    rest = items_list.sync_detailed(client=caller, user_pubid=ann.pubid, limit=1, cursor=page.page.next_cursor)
    assert right(ItemsResponse, rest).items == [pen], rest

    replaced = items_replace.sync_detailed(pen.pubid, client=caller, body=ReplaceItem(added="2024-12-12T13:25:00"))
    assert right(ItemResponse, replaced).added == "2024-12-12T13:25:00", replaced
    body = PatchItem(added="2025-01-01T00:00:00.5")
    patched = right(ItemResponse, items_patch.sync_detailed(pen.pubid, client=caller, body=body))
    assert (patched.name, patched.added) == ("pen", "2025-01-01T00:00:00.500000"), patched
    assert items_delete.sync_detailed(umbrella.pubid, client=caller).status_code == HTTPStatus.OK
    gone = items_read.sync_detailed(umbrella.pubid, client=caller)
    assert wrong(gone, HTTPStatus.NOT_FOUND, "not-found").instance == f"/items/{umbrella.pubid}", gone


def main(url: str) -> None:
    anybody = Client(base_url=url, raise_on_unexpected_status=True)
    ann = sign_up(anybody)
    token = log_in(anybody)
    bob = read_users(anybody, ann)
    caller = AuthenticatedClient(base_url=url, token=token, raise_on_unexpected_status=True)
    write_items(caller, ann, bob)
    patched = users_patch.sync_detailed(ann.pubid, client=caller, body=PatchUser(fullname="Ann Example"))
    assert right(UserResponse, patched).fullname == "Ann Example", patched
    read = right(UserResponse, users_read.sync_detailed(ann.pubid, client=anybody, incl_items=True))
    assert read.items and [item.name for item in read.items] == ["pen"], read
    wrong(users_read.sync_detailed(uuid4(), client=anybody), HTTPStatus.NOT_FOUND, "not-found")


main(sys.argv[1])

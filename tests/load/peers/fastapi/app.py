"""Users, items and logins of Peace, as FastAPI, SQLAlchemy and asyncpg do them.

`peace-loadtest` measures it beside Peace: the same tables, routes and bodies, and the same promises (a
row is committed before its answer, items are written by their owner). README.md says which choices make
it fast, and where it answers differently. It reads DATABASE_URL and JWT_SECRET_KEY.
"""

import os
import secrets
import shlex
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from time import time_ns
from typing import Annotated
from uuid import UUID

import asyncpg
import jwt
from anyio import CapacityLimiter, to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from fastapi import Depends, FastAPI, HTTPException, Query, Response
from fastapi.security import OAuth2PasswordBearer, OAuth2PasswordRequestForm
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import ForeignKey, String, delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# The database


def connection_arguments(url: str) -> dict[str, str]:
    """A URL, as libpq and asyncpg know it, or libpq's `key=value` text, for `asyncpg.connect`."""
    if "://" in url:
        _, rest = url.split("://", 1)
        return {"dsn": f"postgresql://{rest}"}
    fields = dict(field.split("=", 1) for field in shlex.split(url))
    if "dbname" in fields:
        fields["database"] = fields.pop("dbname")
    return fields


CONNECTION = connection_arguments(os.environ["DATABASE_URL"])

# Four connections in each process, as in Peace's. Each request is one statement, which PostgreSQL
# commits by itself: no BEGIN, no COMMIT, no ROLLBACK to wait for.
engine = create_async_engine(
    "postgresql+asyncpg://",
    async_creator=lambda: asyncpg.connect(**CONNECTION),
    isolation_level="AUTOCOMMIT",
    pool_size=4,
    max_overflow=0,
)
sessions = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "user"

    pubid: Mapped[UUID] = mapped_column("id", primary_key=True)
    name: Mapped[str] = mapped_column(String(30), unique=True)
    fullname: Mapped[str | None]
    password_hash: Mapped[str | None] = mapped_column(deferred=True)


class Item(Base):
    __tablename__ = "item"

    pubid: Mapped[UUID] = mapped_column("id", primary_key=True)
    user_pubid: Mapped[UUID] = mapped_column(
        "user_id", ForeignKey("user.id", ondelete="CASCADE")
    )
    name: Mapped[str] = mapped_column(String(30))
    added: Mapped[datetime]


def uuid7() -> UUID:
    """A time-ordered id (RFC 9562), so that rows are inserted at the end of the index."""
    milliseconds = time_ns() // 1_000_000
    random = secrets.randbits(74)
    high, low = random >> 62, random & (1 << 62) - 1
    return UUID(int=milliseconds << 80 | 7 << 76 | high << 64 | 2 << 62 | low)


# Payloads and responses


def in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


Name = Annotated[str, Field(min_length=1, max_length=30)]
Fullname = Annotated[str, Field(max_length=200)]


class CreateUser(BaseModel):
    name: Name
    password: Annotated[str, Field(min_length=8, max_length=64)]
    fullname: Fullname | None = None


class ReplaceUser(BaseModel):
    fullname: Fullname | None = None


class CreateItem(BaseModel):
    name: Name
    user_pubid: UUID


class ReplaceItem(BaseModel):
    added: Annotated[datetime, AfterValidator(in_utc)] | None = None


class Page(BaseModel):
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: UUID = UUID(int=0)


class ListItems(Page):
    user_pubid: UUID


class UserResponse(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    pubid: UUID
    name: str
    fullname: str | None


class ItemResponse(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    pubid: UUID
    name: str
    added: datetime
    user_pubid: UUID


class PageResponse(BaseModel):
    limit: int
    next_cursor: UUID | None


class UsersResponse(BaseModel):
    users: list[UserResponse]
    page: PageResponse


class ItemsResponse(BaseModel):
    items: list[ItemResponse]
    page: PageResponse


class TokenResponse(BaseModel):
    access_token: str
    refresh_token: str
    token_type: str = "bearer"
    expires_in: int


class HealthResponse(BaseModel):
    status: str


# Passwords and tokens

SECRET = os.environ["JWT_SECRET_KEY"]
ISSUER, AUDIENCE = "peace", "app"
ACCESS_LIFETIME = timedelta(minutes=15)
REFRESH_LIFETIME = timedelta(days=30)

# argon2id as Peace has it. It leaves the interpreter's lock, so threads of it use every processor;
# more of them than processors would only take memory.
hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
hashing = CapacityLimiter(len(os.sched_getaffinity(0)))
NOBODY = hasher.hash(secrets.token_urlsafe())


async def hash_password(password: str) -> str:
    return await to_thread.run_sync(hasher.hash, password, limiter=hashing)


async def verify_password(stored: str, password: str) -> bool:
    try:
        return await to_thread.run_sync(hasher.verify, stored, password, limiter=hashing)
    except (VerificationError, InvalidHashError):
        return False


def issue(kind: str, user: UUID, lifetime: timedelta) -> str:
    now = datetime.now(UTC)
    claims = {"sub": str(user), "iss": ISSUER, "aud": AUDIENCE, "typ": kind}
    return jwt.encode(claims | {"iat": now, "exp": now + lifetime}, SECRET, algorithm="HS256")


async def caller(token: Annotated[str, Depends(OAuth2PasswordBearer("auth/token"))]) -> UUID:
    try:
        claims = jwt.decode(token, SECRET, ["HS256"], audience=AUDIENCE, issuer=ISSUER)
    except jwt.InvalidTokenError:
        claims = {}
    if claims.get("typ") != "access":
        raise HTTPException(401, "the token is not valid", {"WWW-Authenticate": "Bearer"})
    return UUID(claims["sub"])


Caller = Annotated[UUID, Depends(caller)]


# Routes


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    yield
    await engine.dispose()


app = FastAPI(title="peer", lifespan=lifespan)


@app.get("/health/live")
async def live() -> HealthResponse:
    return HealthResponse(status="live")


@app.post("/auth/token")
async def log_in(
    form: Annotated[OAuth2PasswordRequestForm, Depends()], response: Response
) -> TokenResponse:
    known = select(User.pubid, User.password_hash).where(User.name == form.username)
    async with sessions() as session:
        user = (await session.execute(known)).one_or_none()
    # The same work whether there is such a user or not. No connection is held meanwhile.
    stored = user.password_hash if user else None
    if not await verify_password(stored or NOBODY, form.password) or not user:
        raise HTTPException(401, "wrong name or password")
    response.headers["Cache-Control"] = "no-store"
    return TokenResponse(
        access_token=issue("access", user.pubid, ACCESS_LIFETIME),
        refresh_token=issue("refresh", user.pubid, REFRESH_LIFETIME),
        expires_in=int(ACCESS_LIFETIME.total_seconds()),
    )


def cut(rows: Sequence[Base], page: Page) -> tuple[Sequence[Base], PageResponse]:
    """Takes away the one row that was fetched to see whether there are more."""
    shown = rows[: page.limit]
    next_cursor = shown[-1].pubid if len(rows) > page.limit else None
    return shown, PageResponse(limit=page.limit, next_cursor=next_cursor)


@app.get("/users", response_model=UsersResponse, response_model_exclude_none=True)
async def list_users(page: Annotated[Page, Query()]):
    query = select(User).where(User.pubid > page.cursor).order_by(User.pubid)
    async with sessions() as session:
        rows = (await session.scalars(query.limit(page.limit + 1))).all()
    users, page = cut(rows, page)
    return {"users": users, "page": page}


@app.get("/users/{pubid}", response_model=UserResponse, response_model_exclude_none=True)
async def read_user(pubid: UUID):
    async with sessions() as session:
        user = await session.get(User, pubid)
    if user is None:
        raise HTTPException(404, "no such user")
    return user


@app.post(
    "/users", status_code=201, response_model=UserResponse, response_model_exclude_none=True
)
async def create_user(body: CreateUser, response: Response):
    password_hash = await hash_password(body.password)
    user = User(
        pubid=uuid7(), name=body.name, fullname=body.fullname, password_hash=password_hash
    )
    try:
        async with sessions() as session:
            session.add(user)
            await session.commit()
    except IntegrityError as error:
        raise HTTPException(409, "the name is taken") from error
    response.headers["Location"] = f"/users/{user.pubid}"
    return user


@app.put("/users/{pubid}", response_model=UserResponse, response_model_exclude_none=True)
async def replace_user(pubid: UUID, body: ReplaceUser, caller: Caller):
    if caller != pubid:
        raise HTTPException(403, "not yours")
    change = update(User).where(User.pubid == pubid).values(fullname=body.fullname)
    async with sessions() as session:
        user = await session.scalar(change.returning(User))
        await session.commit()
    if user is None:
        raise HTTPException(404, "no such user")
    return user


@app.delete("/users/{pubid}")
async def delete_user(pubid: UUID, caller: Caller) -> None:
    if caller != pubid:
        raise HTTPException(403, "not yours")
    async with sessions() as session:
        deleted = await session.execute(delete(User).where(User.pubid == pubid))
        await session.commit()
    if deleted.rowcount == 0:
        raise HTTPException(404, "no such user")


@app.get("/items", response_model=ItemsResponse, response_model_exclude_none=True)
async def list_items(page: Annotated[ListItems, Query()]):
    query = select(Item).where(Item.user_pubid == page.user_pubid, Item.pubid > page.cursor)
    async with sessions() as session:
        rows = (await session.scalars(query.order_by(Item.pubid).limit(page.limit + 1))).all()
    items, page = cut(rows, page)
    return {"items": items, "page": page}


@app.get("/items/{pubid}", response_model=ItemResponse)
async def read_item(pubid: UUID):
    async with sessions() as session:
        item = await session.get(Item, pubid)
    if item is None:
        raise HTTPException(404, "no such item")
    return item


@app.post("/items", status_code=201, response_model=ItemResponse)
async def create_item(body: CreateItem, caller: Caller, response: Response):
    if caller != body.user_pubid:
        raise HTTPException(403, "not yours")
    item = Item(
        pubid=uuid7(), user_pubid=caller, name=body.name, added=in_utc(datetime.now(UTC))
    )
    try:
        async with sessions() as session:
            session.add(item)
            await session.commit()
    except IntegrityError as error:
        raise HTTPException(403, "there is no such user") from error
    response.headers["Location"] = f"/items/{item.pubid}"
    return item


@app.put("/items/{pubid}", response_model=ItemResponse)
async def replace_item(pubid: UUID, body: ReplaceItem, caller: Caller):
    change = (
        update(Item)
        .where(Item.pubid == pubid, Item.user_pubid == caller)
        .values(added=Item.added if body.added is None else body.added)
    )
    async with sessions() as session:
        item = await session.scalar(change.returning(Item))
        await session.commit()
        if item is None and await session.get(Item, pubid) is None:
            raise HTTPException(404, "no such item")
    if item is None:
        raise HTTPException(403, "not yours")
    return item

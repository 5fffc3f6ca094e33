"""The tables of the Python template, as its ORM saw them."""

import datetime
import os
import uuid

import psycopg
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """What Alembic compares the database with."""


class User(Base):
    """Somebody who may own items."""

    __tablename__ = "user"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    name: Mapped[str] = mapped_column(sa.String(30), unique=True)
    fullname: Mapped[str | None]
    password_hash: Mapped[str | None]
    items: Mapped[list["Item"]] = relationship(back_populates="user", passive_deletes=True)


class Item(Base):
    """Something that belongs to a user and goes with them."""

    __tablename__ = "item"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    user_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("user.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(sa.String(30))
    added: Mapped[datetime.datetime]
    user: Mapped[User] = relationship(back_populates="items")


def engine() -> sa.Engine:
    """Connects to DATABASE_URL, in libpq's `key=value` form."""
    dsn = os.environ["DATABASE_URL"]
    return sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn))

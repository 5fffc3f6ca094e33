"""Writes rows through the ORM, as a service that was in use for a while has them.

`rows.py --without-passwords` is for the first revision, whose table has no such column.
"""

import datetime
import sys
import uuid

import sqlalchemy as sa
from sqlalchemy.orm import Session

from models import Item, User, engine

USERS = 40
# The hash of MyPass123!U1, as the template's bcrypt stored it.
PASSWORD_HASH = "$2b$12$yXNToxGAcqVb1FwFRbDf6u3rkwDu/zlTQ4CyQlQI/eD4kbuG/zwje"
FULLNAMES = [None, "", "Zoë Ångström", "O'Brien \\ \"Bob\"", "two\nlines\tand a tab", "名前 🐘"]
MOMENTS = [
    datetime.datetime(2024, 12, 12, 13, 25),
    datetime.datetime(2026, 11, 22, 21, 56, 32, 308474),
    datetime.datetime.min,
    datetime.datetime.max,
]


def user(number: int) -> dict:
    """The columns of a user; the password of every second one is set."""
    return {
        "id": uuid.UUID(int=number + 1),
        "name": f"user-{number}".ljust(30, "x") if number % 7 == 6 else f"user-{number}",
        "fullname": FULLNAMES[number % len(FULLNAMES)],
        "password_hash": PASSWORD_HASH if number % 2 else None,
    }


def items(number: int) -> list[dict]:
    """The columns of a user's items: none, one, two or three."""
    return [
        {
            "id": uuid.UUID(int=(number + 1) << 64 | index),
            "user_id": uuid.UUID(int=number + 1),
            "name": f"item-{index}",
            "added": MOMENTS[(number + index) % len(MOMENTS)],
        }
        for index in range(number % 4)
    ]


users = [user(number) for number in range(USERS)]
if "--without-passwords" in sys.argv[1:]:
    for row in users:
        del row["password_hash"]
with Session(engine()) as session:
    session.execute(sa.insert(User), users)
    session.execute(sa.insert(Item), [row for number in range(USERS) for row in items(number)])
    session.commit()

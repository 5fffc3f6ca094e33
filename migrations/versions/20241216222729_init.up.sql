-- revision: 586f9c3cd40c
-- revises: none
-- message: init
-- transaction: yes

create table "user" (
    id uuid primary key,
    name varchar(30) not null,
    fullname varchar
);

create table item (
    id uuid primary key,
    user_id uuid not null references "user" (id) on delete cascade,
    name varchar(30) not null,
    added timestamp not null
);

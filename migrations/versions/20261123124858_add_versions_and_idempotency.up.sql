-- revision: 20261123124858
-- revises: 20261122180000
-- message: add versions and idempotency
-- transaction: yes

-- What was answered under an `Idempotency-Key`, which goes with the user whose data it holds; an index for
-- that, and one for deleting what is older than a day.
create table idempotency (
    fingerprint bytea not null,
    status smallint,
    location text,
    etag text,
    body bytea,
    key bytea not null,
    user_id uuid,
    created timestamptz default now() not null,
    constraint idempotency_pkey primary key (key),
    constraint idempotency_user_id_fkey foreign key (user_id) references "user" (id) on delete cascade
);

create index idempotency_created_idx on idempotency (created);
create index idempotency_user_id_idx on idempotency (user_id);

-- Counted up by each change. The default is a constant, so no row is written.
alter table "user" add column version bigint default 1 not null;
alter table item add column version bigint default 1 not null;

-- revision: 20261123145643
-- revises: 20261123124858
-- message: add sessions and login tries
-- transaction: yes

-- Wrong passwords, counted by name and address, and by address; found by an HMAC of these.
create table login_tries (
    until timestamptz not null,
    key bytea not null,
    count smallint not null,
    count_max smallint not null,
    constraint login_tries_pkey primary key (key),
    constraint login_tries_over check (count <= count_max)
);

create index login_tries_until_idx on login_tries (until);

-- From a login to a logout. Of tokens there are hashes only.
create table session (
    id uuid not null,
    user_id uuid not null,
    family_hash bytea not null,
    token_hash bytea not null,
    spent bytea[] default '{}'::bytea[] not null,
    spent_at timestamptz[] default '{}'::timestamp with time zone[] not null,
    created timestamptz default now() not null,
    expires timestamptz not null,
    constraint session_pkey primary key (id),
    constraint session_family_hash_key unique (family_hash),
    constraint session_user_id_fkey foreign key (user_id) references "user" (id) on delete cascade
);

create index session_expires_idx on session (expires);
create index session_user_id_idx on session (user_id);

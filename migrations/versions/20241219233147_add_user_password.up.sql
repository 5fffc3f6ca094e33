-- revision: 1246b5faa711
-- revises: 586f9c3cd40c
-- message: add user password
-- transaction: yes

alter table "user"
    add column password_hash varchar,
    add constraint user_name_key unique (name);

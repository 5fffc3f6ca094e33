-- revision: 1246b5faa711
-- transaction: yes

alter table "user"
    drop constraint user_name_key,
    drop column password_hash;

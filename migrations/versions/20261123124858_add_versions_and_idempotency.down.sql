-- revision: 20261123124858
-- transaction: yes

alter table item drop column version;
alter table "user" drop column version;
drop table idempotency;

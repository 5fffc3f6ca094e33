-- revision: 586f9c3cd40c
-- transaction: yes

drop table item;
drop table "user";

-- revision: 20261123145643
-- transaction: yes

drop table session;
drop table login_tries;

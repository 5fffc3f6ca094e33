-- revision: 20261122180000
-- transaction: none

drop index concurrently if exists item_user_id_id_idx;

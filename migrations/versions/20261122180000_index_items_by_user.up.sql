-- revision: 20261122180000
-- revises: 1246b5faa711
-- message: index items by user
-- transaction: none

-- One user's items in insertion order, and the cascade when the user is deleted.
create index concurrently item_user_id_id_idx on item (user_id, id);

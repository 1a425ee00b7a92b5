-- Accounts.

-- name: get_account_id$
-- The id of the account called :name.
select id from accounts where name = :name;

-- name: create_account$
-- Create the account called :name; no row if it exists.
insert into accounts (name) values (:name) on conflict (name) do nothing returning id;

-- name: list_accounts
-- Every account, by name.
select id, name, created_at from accounts order by name;

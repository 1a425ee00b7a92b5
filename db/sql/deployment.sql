-- What the database stores about the code that uses it.

-- name: min_code_revision$
-- The oldest revision of code that may use the database.
select min_code_revision from deployment;

-- name: set_min_code_revision!
-- Set the oldest revision of code that may use the database; each migration does, in its transaction.
update deployment set min_code_revision = :revision;

-- name: get_role_address_limit$
-- The stored ROLE_ADDRESS_LIMIT, which all processes should have; null if none is stored.
select role_address_limit from deployment;

-- name: set_role_address_limit!
-- Store the limit that all processes should have from now on.
update deployment set role_address_limit = :limit;

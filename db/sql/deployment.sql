-- What the database keeps about the code that runs on it.

-- name: min_code_revision$
-- The oldest revision of code that may use the database.
select min_code_revision from deployment;

-- name: has_deployment$
-- Whether the table is there.
select to_regclass('deployment') is not null;

-- name: set_min_code_revision!
-- Written by each migration, in its own transaction.
update deployment set min_code_revision = :revision;

-- name: get_shared_address_limit$
-- The SHARED_ADDRESS_LIMIT that all processes are to have; null where none was put in force.
select shared_address_limit from deployment;

-- name: set_shared_address_limit!
-- The limit that all processes are to have from now on.
update deployment set shared_address_limit = :limit;

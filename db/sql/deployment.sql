-- What the database keeps about the code that runs on it.

-- name: suits_from$
-- The oldest revision of code that may use the database.
select suits_from_revision from deployment;

-- name: keeps_suits_from$
-- Whether the database is new enough to keep it.
select to_regclass('deployment') is not null;

-- name: note_suits_from!
-- Written by each migration, in its own transaction.
update deployment set suits_from_revision = :revision;

-- name: limit_in_force$
-- The SHARED_ADDRESS_LIMIT that all processes are to have; null where none was put in force.
select shared_address_limit from deployment;

-- name: put_limit_in_force!
-- The limit that all processes are to have from now on.
update deployment set shared_address_limit = :limit;

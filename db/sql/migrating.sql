-- What a migration asks and does before the first of its statements.

-- name: encoding^
-- How the database keeps text, and what it is called.
select current_database() as database, current_setting('server_encoding') as encoding;

-- name: lock_migrations$
-- One migration at a time; the second finds nothing to do. From then on it waits for a table for half
-- a second only: whoever comes after it waits as well meanwhile, and within a second Postgres would
-- take two who wait for each other for a deadlock, and end the one that it finds first.
select pg_advisory_xact_lock(hashtext('sluice migration')), set_config('lock_timeout', '500ms', true);

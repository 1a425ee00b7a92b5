-- What a migration checks and sets before its first statement.

-- name: encoding^
-- The name of the database and its encoding.
select current_database() as database, current_setting('server_encoding') as encoding;

-- name: lock_migrations$
-- Let one migration run at a time; a second finds nothing to do. From then on it waits half a second at most for a
-- table, because other transactions queue up behind it. After a second Postgres would look for deadlocks, and could
-- end one of those.
select pg_advisory_xact_lock(hashtext('sluice migration')), set_config('lock_timeout', '500ms', true);

-- Contact lists made at once in the database, as an import of two addresses each leaves them; and
-- what the measurements read.

-- name: next_ids$
-- An id above all contacts and addresses.
select 1 + greatest((select max(id) from contacts), (select max(id) from email_addresses), 0);

-- name: make_contacts!
-- Contacts with consecutive ids.
insert into contacts (account_id, id)
select :account_id, :first::bigint + n from generate_series(0, :contacts::int - 1) n;

-- name: make_addresses!
-- Two addresses for each contact, without evidence of permission, next to each other.
insert into email_addresses (account_id, id, address, match_key, status, status_job_id, holders)
select :account_id, :first::bigint + n, address, address, 'non_marketable', 0, 1
from generate_series(0, 2 * :contacts::int - 1) n,
     lateral (select left(md5(n::text), 12) || '.' || n || '@example.com' as address) made;

-- name: make_links!
-- The addresses in the contacts' fields email1 and email2.
insert into contact_emails (account_id, contact_id, field, address_id)
select :account_id, :first::bigint + n, f, :first::bigint + 2 * n + f - 1
from generate_series(0, :contacts::int - 1) n, generate_series(1, 2) f;

-- name: move_sequences
-- Let what is made later get ids above these.
select setval(pg_get_serial_sequence('contacts', 'id'), :last::bigint),
       setval(pg_get_serial_sequence('email_addresses', 'id'), :last::bigint);

-- name: first_contacts
-- Contacts of the account, from its first on.
select id from contacts where account_id = :account_id order by id limit :most;

-- name: job_done^
-- The job's state, and its pairs accounted for and planned.
select j.state::text, coalesce(sum(c.pairs) filter (where c.state = 'done'), 0)::bigint as done,
       coalesce(sum(c.pairs), 0)::bigint as planned
from jobs j left join job_chunks c on c.job_id = j.id
where j.id = :job_id
group by j.id;

-- name: job_figures^
-- What a finished job says of itself; times in seconds, chunks' durations in milliseconds.
select j.action, j.state::text, j.selected, j.applied, j.unchanged, j.rejected, j.empty,
       j.propagated,
       extract(epoch from j.finished_at - j.created_at)::float8 as seconds,
       extract(epoch from j.planned_at - j.created_at)::float8 as plan_seconds,
       c.*
from jobs j
cross join lateral (
    select count(*) as chunks, sum(attempts)::bigint as attempts,
           min(duration_ms) as chunk_ms_shortest,
           percentile_cont(0.5) within group (order by duration_ms)::float8 as chunk_ms_median,
           percentile_cont(0.95) within group (order by duration_ms)::float8 as chunk_ms_p95,
           max(duration_ms) as chunk_ms_longest
    from job_chunks where job_id = j.id and state = 'done'
) c
where j.id = :job_id;

-- name: wal_bytes$
-- How much was ever written to the log.
select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint;

-- name: server_settings
-- The settings that bear on the figures.
select name, current_setting(name) as value from pg_settings
where name in ('shared_buffers', 'fsync', 'synchronous_commit', 'full_page_writes', 'max_wal_size',
               'checkpoint_timeout', 'wal_compression', 'commit_delay', 'random_page_cost',
               'effective_cache_size', 'jit', 'autovacuum', 'wal_buffers', 'io_method')
order by name;

-- What a run has done, and what it has written.

-- name: results_by_kind
-- The job's direct results, counted by what became of the address and why.
select outcome::text, reason, count(*) as rows
from results
where job_id = :job_id and cause = 'direct'
group by outcome, reason;

-- name: addresses_by_status
-- The account's addresses, counted by status.
select status::text, count(*) as addresses
from email_addresses
where account_id = :account_id
group by status;

-- name: sizes^
-- How much was ever written to the log, and how large the tables that grow have become.
select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint as wal,
       pg_table_size('results') as results_table,
       pg_indexes_size('results') as results_indexes,
       pg_table_size('email_addresses') as addresses_table,
       pg_indexes_size('email_addresses') as addresses_indexes,
       pg_database_size(current_database()) as database;

-- name: address_lockers
-- Transactions at work that have begun a statement which locks or changes addresses. It keeps this
-- lock of the table until it ends, so that the lock lives at least as long as those of its rows.
select l.virtualtransaction as transaction
from pg_locks l
join pg_stat_activity s on s.pid = l.pid
where l.locktype = 'relation' and l.relation = 'email_addresses'::regclass and l.granted
  and l.database = (select oid from pg_database where datname = current_database())
  and l.mode in ('RowShareLock', 'RowExclusiveLock')
  and s.application_name <> :but_not
  and s.backend_type = 'client backend';

-- name: lock_one!
-- Lock an address as a change of its status would, and let it go.
select from email_addresses
where account_id = :account_id and id = :address_id
for no key update;

-- name: count_results$
-- All results there are.
select count(*) from results;

-- The state and the effects of runs, and the locks that they hold.

-- name: results_by_kind
-- The job's direct results, counted by outcome and reason.
select outcome::text, reason, count(*) as rows
from results
where job_id = :job_id
  and cause = 'direct'
group by outcome, reason;

-- name: addresses_by_status
-- The account's addresses, counted by status.
select status::text, count(*) as addresses
from email_addresses
where account_id = :account_id
group by status;

-- name: sizes^
-- The bytes ever written to the log, and the present sizes of the growing tables.
select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint as wal,
       pg_table_size('results') as results_table,
       pg_indexes_size('results') as results_indexes,
       pg_table_size('email_addresses') as addresses_table,
       pg_indexes_size('email_addresses') as addresses_indexes;

-- name: job_state$
-- The state of the job.
select state::text from jobs where id = :job_id;

-- name: still_marketable$
-- The number of these contacts with a marketable address.
select count(distinct e.contact_id)
from contact_emails e
join email_addresses a on a.account_id = e.account_id and a.id = e.address_id
where e.account_id = :account_id and e.contact_id = any(:contact_ids::bigint[])
  and a.status in ('single_opt_in', 'double_opt_in', 'confirmed', 'unengaged_marketable');

-- name: create_lock_watch#
-- A procedure that records every few milliseconds which transactions have locked or changed addresses.
-- A transaction keeps this table lock to its end, at least as long as its row locks. The procedure ends
-- when it gets the advisory lock of its name.
create temporary table looks (look bigint, looked_at timestamptz, holder text);
create procedure pg_temp.watch_locks() language plpgsql as $$
declare
    look bigint = 0;
begin
    while not pg_try_advisory_lock(hashtext('watch_locks')) loop
        look = look + 1;
        insert into looks
        select look, clock_timestamp(), h.virtualtransaction
        from (values (1)) one
        left join (
            select l.virtualtransaction
            from pg_locks l
            join pg_stat_activity s on s.pid = l.pid
            where l.locktype = 'relation' and l.relation = 'email_addresses'::regclass and l.granted
              and l.database = (select oid from pg_database where datname = current_database())
              and l.mode in ('RowShareLock', 'RowExclusiveLock')
              and s.application_name <> 'bench observer'
              and s.backend_type = 'client backend'
        ) h on true;
        commit;
        perform pg_sleep(0.003);
    end loop;
    perform pg_advisory_unlock(hashtext('watch_locks'));
end
$$;

-- name: longest_lock_ms$
-- The longest time that a transaction can have held its lock: from the last check before it was seen to
-- the first check after it.
with held as (
    select holder, min(look) as first, max(look) as last from looks where holder is not null group by holder
)
select coalesce(max(extract(epoch from
           coalesce(after.looked_at, clock_timestamp()) - before.looked_at) * 1000), 0)::float8
from held
join looks before on before.look = greatest(held.first - 1, 1)
left join looks after on after.look = held.last + 1;

-- name: opt_out_bare$
-- The one UPDATE of the bare route.
update email_addresses
set status = 'manual', previous_status = status, status_job_id = :job_id,
    status_changed_at = clock_timestamp()
where account_id = :account_id and match_key = :match_key
returning id;

-- name: insert_bare_result!
-- The one INSERT of the bare route.
insert into results (account_id, job_id, chunk_no, item_id, contact_id, field, address_id, outcome,
                     from_status, to_status, decided_at)
select account_id, :job_id, 1, contact_id, contact_id, field, address_id, 'applied', 'non_marketable', 'manual', clock_timestamp()
from contact_emails
where account_id = :account_id and address_id = :address_id;

-- name: result_rows
-- The rows and columns of a job's results as the HTTP stream contains them.
select r.contact_id, 'email' || r.field as field, a.address, r.outcome, r.reason, r.from_status,
       r.to_status, r.cause, s.address as source_address, r.decided_at, null as error
from results r
left join email_addresses a on a.account_id = :account_id and a.id = r.address_id
left join email_addresses s on s.account_id = :account_id and s.id = r.source_address_id
where r.account_id = :account_id and r.job_id = :job_id
order by r.item_id, r.field, r.cause;

-- The statements of one chunk's transaction, in the order in which they run.

-- name: lock_job_shared$
-- Wait for, and then keep out, callers that pause or cancel the job: their lock is the exclusive one.
-- The lock of the lane tells the sweeper that a worker is at it. The time limits of the transaction come
-- first, so that the wait for these locks is limited as any other: columns are computed in this order.
select set_config('lock_timeout', :lock_ms, true),
    set_config('idle_in_transaction_session_timeout', :idle_ms, true),
    set_config('statement_timeout', :statement_ms, true),
    case when current_setting('transaction_timeout', true) is not null then
        set_config('transaction_timeout', :transaction_ms, true) end,
    pg_advisory_xact_lock_shared(7741, hashint8(:job_id)),
    pg_advisory_xact_lock_shared(7745, hashint8(:job_id::bigint * 1024 + :lane::int));

-- name: lock_job_exclusive$
-- Wait until no chunk of the job is being worked, and let none start before the transaction ends.
select pg_advisory_xact_lock(7741, hashint8(:job_id));

-- name: claim_next_chunk^
-- The next chunk that nobody works on, if the job is running. The row lock is the lease. The search
-- begins at a `share` of the job's chunks and comes to those before it at last: contacts that came
-- together hold the same addresses, and who begins elsewhere is not in their way. A chunk that another
-- lane has noted is left to that lane until it is left, or its worker is found lost: a chunk may be free
-- because its transaction was rolled back, and only the sweeper can tell that from a lost worker.
with bounds as materialized (
    select floor(max(chunk_no) * :share::float8) as first from job_chunks where job_id = :job_id
), others as materialized (
    select coalesce(array_agg(chunk_no) filter (where chunk_no is not null), '{}') as chunk_nos
    from job_lanes
    where job_id = :job_id and lane <> :lane and state = 'taken'
), ahead as materialized (
    select c.chunk_no, c.contact_ids, c.attempts, c.careful_attempts
    from job_chunks c
    where c.job_id = :job_id
      and c.chunk_no > (select first from bounds)::int
      and c.state = 'pending'
      and c.runnable_at <= clock_timestamp()
      and exists (select from jobs j where j.id = :job_id and j.state = 'running')
      and c.chunk_no <> all((select chunk_nos from others)::int[])
    order by c.chunk_no
    limit 1
    for update of c skip locked
), behind as materialized (
    select c.chunk_no, c.contact_ids, c.attempts, c.careful_attempts
    from job_chunks c
    where not exists (select from ahead)
      and c.job_id = :job_id
      and c.chunk_no <= (select first from bounds)::int
      and c.state = 'pending'
      and c.runnable_at <= clock_timestamp()
      and exists (select from jobs j where j.id = :job_id and j.state = 'running')
      and c.chunk_no <> all((select chunk_nos from others)::int[])
    order by c.chunk_no
    limit 1
    for update of c skip locked
)
select * from ahead union all select * from behind;

-- name: claim_chunk_by_number^
-- The chunk of that number, if nobody works on it and the job is running.
select c.chunk_no, c.contact_ids, c.attempts, c.careful_attempts
from job_chunks c
where c.job_id = :job_id
  and c.chunk_no = :chunk_no
  and c.state = 'pending'
  and c.runnable_at <= clock_timestamp()
  and exists (select from jobs j where j.id = :job_id and j.state = 'running')
for update of c skip locked;

-- name: count_attempt$
-- Count an attempt before it is made, so that one which ends its process is counted too, and note in
-- the lane which chunk it is of. Nothing where the lane is another worker's by now, or the chunk is
-- not as it was seen: another worker may have counted its own attempt since.
with chunk as materialized (
    select c.chunk_no
    from job_chunks c
    where c.job_id = :job_id and c.chunk_no = :chunk_no
      and c.state = 'pending' and c.runnable_at <= clock_timestamp()
      and c.careful_attempts is not distinct from :careful_attempts::smallint
      and exists (select from jobs j where j.id = :job_id and j.state = 'running')
      and not exists (
          select from job_lanes l
          where l.job_id = :job_id and l.lane <> :lane and l.state = 'taken'
            and l.chunk_no = c.chunk_no
      )
    for update of c skip locked
), noted as (
    update job_lanes l
    set chunk_no = chunk.chunk_no, touched_at = clock_timestamp()
    from chunk
    where l.job_id = :job_id and l.lane = :lane and l.hop = :hop and l.state = 'taken'
    returning l.chunk_no
)
update job_chunks c
set attempts = attempts + 1, careful_attempts = coalesce(careful_attempts, 0) + 1
from noted
where c.job_id = :job_id and c.chunk_no = noted.chunk_no
returning c.chunk_no;

-- name: uncount_attempt!
-- Take back an attempt that was counted beforehand and not made, or ended through no fault of the
-- chunk's.
update job_chunks
set attempts = greatest(attempts - 1, 0), careful_attempts = greatest(careful_attempts - 1, 0)
where job_id = :job_id and chunk_no = :chunk_no and state = 'pending';

-- name: record_current_chunk$
-- Note which chunk a lane's worker has in hand, or that it has none. What a crash of Postgres forgets is no harm, so that
-- nobody waits for the disk.
update job_lanes
set chunk_no = :chunk_no
where job_id = :job_id and lane = :lane and hop = :hop and state = 'taken'
returning set_config('synchronous_commit', 'off', true) is not null;

-- name: terminate_overlong_chunks
-- End the connections whose transaction on a chunk has lasted for longer than any may. Postgres 17 and
-- newer do it themselves (`transaction_timeout`). A worker that is stopped in the middle of a statement
-- leaves no idle transaction, and would keep its chunk for as long as it is stopped.
select pid, pg_terminate_backend(pid) as ended
from pg_locks
join pg_stat_activity using (pid)
where locktype = 'advisory' and granted and mode = 'ShareLock'
  and pg_locks.database = (select oid from pg_database where datname = current_database())
  and classid = 7741 and objsubid = 2
  and xact_start < clock_timestamp() - make_interval(secs => :seconds);

-- name: read_links^
-- Which addresses the contacts hold, in all fields, as three arrays of one order.
select
    coalesce(array_agg(contact_id order by contact_id, field), '{}') as contact_ids,
    coalesce(array_agg(field order by contact_id, field), '{}') as fields,
    coalesce(array_agg(address_id order by contact_id, field), '{}') as address_ids
from contact_emails
where account_id = :account_id and contact_id = any(:contact_ids::bigint[]);

-- name: read_links_and_addresses^
-- Which addresses the contacts hold, in all fields, and what those addresses are, without a lock:
-- arrays of one order for each of the two. All of it as one moment showed it.
with links as materialized (
    select contact_id, field, address_id
    from contact_emails
    where account_id = :account_id and contact_id = any(:contact_ids::bigint[])
), held as (
    select
        coalesce(array_agg(contact_id order by contact_id, field), '{}') as contact_ids,
        coalesce(array_agg(field order by contact_id, field), '{}') as fields,
        coalesce(array_agg(address_id order by contact_id, field), '{}') as address_ids
    from links
), addresses as (
    select
        coalesce(array_agg(id), '{}') as ids,
        coalesce(array_agg(status), '{}') as statuses,
        coalesce(array_agg(propagated_from), '{}') as sources,
        coalesce(array_agg(status_job_id), '{}') as job_ids,
        coalesce(array_agg(people(holders, repeats)), '{}') as people,
        coalesce(array_agg(xmin), '{}') as versions
    from email_addresses
    -- An array, and not a join: that would turn to reading whole accounts where chunks are large.
    where account_id = :account_id and id = any(array(select address_id from links))
)
select held.*, addresses.*, clock_timestamp() as decided_at from held cross join addresses;

-- name: find_existing_contacts^
-- Which of the ids are contacts of the account, and which of those hold an address.
select coalesce(array_agg(c.id), '{}') as ids,
       coalesce(array_agg(c.id) filter (where exists (
           select from contact_emails e where e.account_id = c.account_id and e.contact_id = c.id
       )), '{}') as holding
from contacts c
where c.account_id = :account_id and c.id = any(:contact_ids::bigint[]);

-- name: read_siblings
-- For addresses that :min_contacts contacts or more hold, and that are no role addresses: the other
-- addresses of all who hold them.
select y.id as source_id, o.contact_id, o.field, o.address_id
from email_addresses y
join contact_emails h on h.account_id = y.account_id and h.address_id = y.id
join contact_emails o
    on o.account_id = h.account_id and o.contact_id = h.contact_id and o.address_id <> y.id
where y.account_id = :account_id
  and y.id = any(:address_ids::bigint[])
  and y.holders >= :min_contacts and people(y.holders, y.repeats) <= :shared_address_limit;

-- name: read_addresses^
-- The addresses as they are, without a lock; whoever changes one checks that it is still that version.
select
    coalesce(array_agg(id), '{}') as ids,
    coalesce(array_agg(status), '{}') as statuses,
    coalesce(array_agg(propagated_from), '{}') as sources,
    coalesce(array_agg(status_job_id), '{}') as job_ids,
    coalesce(array_agg(people(holders, repeats)), '{}') as people,
    coalesce(array_agg(xmin), '{}') as versions,
    clock_timestamp() as decided_at
from email_addresses
where account_id = :account_id and id = any(:address_ids::bigint[]);

-- name: lock_addresses^
-- Lock the addresses in id order, the one order that all transactions use, and tell what they
-- are then; `decided_at` is taken after the last lock, so that ledgers of an address never overlap.
-- With a limit, role addresses are left out: they stand in chunk after chunk, nearly always with
-- nothing left to change, and parallel chunks must not wait for each other.
with locked as materialized (
    select id, status, propagated_from, status_job_id, holders, repeats, xmin
    from email_addresses
    where account_id = :account_id
      and id = any(:address_ids::bigint[])
      and (:shared_address_limit::int is null or people(holders, repeats) <= :shared_address_limit)
    order by id
    for no key update
)
select
    coalesce(array_agg(id), '{}') as ids,
    coalesce(array_agg(status), '{}') as statuses,
    coalesce(array_agg(propagated_from), '{}') as sources,
    coalesce(array_agg(status_job_id), '{}') as job_ids,
    coalesce(array_agg(people(holders, repeats)), '{}') as people,
    coalesce(array_agg(xmin), '{}') as versions,
    clock_timestamp() as decided_at
from locked;

-- name: find_with_opted_out_sibling$
-- Which of the addresses, each given once, stand on any contact beside one whose opt-out spreads.
-- Contacts that the job itself brings in do not count. The first that is found is enough: a role
-- address is on thousands of contacts, and asked about by chunk after chunk.
select coalesce(array_agg(x.id), '{}')
from unnest(:address_ids::bigint[]) as x (id)
cross join lateral (
    select from contact_emails h
    join contact_emails s
        on s.account_id = h.account_id and s.contact_id = h.contact_id and s.address_id <> x.id
    join email_addresses y on y.account_id = s.account_id and y.id = s.address_id
    where h.account_id = :account_id and h.address_id = x.id
      and y.status = any(:own_right_statuses::email_status[])
      and y.propagated_from is null
      and people(y.holders, y.repeats) <= :shared_address_limit
      -- A value, which is asked for last and so for few, and not a join.
      and (select c.import_job_id from contacts c
           where c.account_id = y.account_id and c.id = s.contact_id) is distinct from :job_id
    limit 1
) found;

-- name: find_earlier_decisions
-- The direct decisions that this job has taken on the addresses.
select distinct on (address_id) address_id, outcome, to_status, reason
from results
where address_id = any(:address_ids::bigint[]) and job_id = :job_id and cause = 'direct'
order by address_id, (outcome = 'applied') desc;

-- name: update_alike!
-- Give addresses one status, in their own right, where they are still of a version that was read:
-- `xmin` is another one after every change. A lock leaves it as it is.
update email_addresses
set status = :to_status,
    previous_status = status,
    propagated_from = null,
    status_job_id = :job_id,
    status_changed_at = :decided_at
where account_id = :account_id
  and id = any(:address_ids::bigint[])
  and xmin = any(:versions::xid[]);

-- name: update_each!
-- Give addresses a status each, with the address from which it spread, if it did, where they are
-- still of the version that was read. One statement for all of them, which comes to them in order of id.
-- What a status is said to come from may be one that the same chunk decided on before. There are
-- few kinds of changes, so that each address says only which is its own.
update email_addresses a
set status = (:to_statuses::email_status[])[c.kind],
    previous_status = (:from_statuses::email_status[])[c.kind],
    propagated_from = c.source_id,
    status_job_id = :job_id,
    status_changed_at = :decided_at
from unnest(:address_ids::bigint[], :kinds::smallint[], :source_ids::bigint[], :versions::xid[])
    as c (id, kind, source_id, version)
where a.account_id = :account_id
  and a.id = any(:address_ids::bigint[])
  and a.id = c.id
  and a.xmin = c.version;

-- name: finish_chunk!
-- Mark the chunk done, with its exact counts.
update job_chunks
set state = 'done',
    applied = :applied,
    unchanged = :unchanged,
    rejected = :rejected,
    empty = :empty,
    propagated = :propagated,
    reasons = :reasons,
    attempts = :attempts,
    error = :error,
    worker = :worker,
    duration_ms = :duration_ms,
    finished_at = clock_timestamp()
where job_id = :job_id and chunk_no = :chunk_no;

-- name: insert_done_chunk!
-- A chunk without contacts, for what was done besides them; it counts what was propagated.
insert into job_chunks (job_id, chunk_no, contact_ids, pairs, state, propagated, finished_at)
values (:job_id, :chunk_no, '{}', 0, 'done', :propagated, clock_timestamp())
on conflict (job_id, chunk_no) do update
set propagated = job_chunks.propagated + excluded.propagated;

-- name: lock_failed_chunk^
-- Hold a chunk that failed, if it is still pending, nobody works on it, and its job still runs: once
-- a pause or cancel has answered, no contact may be refused either.
select c.contact_ids, c.attempts
from job_chunks c
where c.job_id = :job_id and c.chunk_no = :chunk_no and c.state = 'pending'
  and exists (select from jobs j where j.id = :job_id and j.state = 'running')
for update of c skip locked;

-- name: postpone_chunk!
-- Count the attempt and try again after a while. One that was counted before it was made has come to
-- an end, and lost no worker.
update job_chunks
set attempts = :attempts,
    careful_attempts = case when :counted then greatest(careful_attempts - 1, 0)
        else careful_attempts end,
    error = :error,
    runnable_at = clock_timestamp() + make_interval(secs => :delay_seconds)
where job_id = :job_id and chunk_no = :chunk_no;

-- name: lock_chunk_numbers$
-- One at a time numbers new chunks of a job.
select pg_advisory_xact_lock(7744, hashint8(:job_id));

-- name: split_chunk!
-- Replace a chunk by its two halves, which are suspected where it was.
with numbered as (
    select coalesce(max(chunk_no), 0) as last from job_chunks where job_id = :job_id
), whole as (
    update job_chunks
    set state = 'split', attempts = :attempts, error = :error, finished_at = clock_timestamp()
    where job_id = :job_id and chunk_no = :chunk_no
    returning contact_ids, pairs / cardinality(contact_ids) as fields,
        careful_attempts * 0 as careful_attempts
)
insert into job_chunks (job_id, chunk_no, contact_ids, pairs, careful_attempts)
select :job_id, numbered.last + half.no, half.ids, cardinality(half.ids) * whole.fields,
    whole.careful_attempts
from whole
cross join numbered
cross join lateral (values
    (1, whole.contact_ids[1 : (cardinality(whole.contact_ids) / 2)]),
    (2, whole.contact_ids[(cardinality(whole.contact_ids) / 2) + 1 : (cardinality(whole.contact_ids))])
) as half (no, ids);

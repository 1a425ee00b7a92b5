-- The statements of one chunk's transaction, in the order in which they run.

-- name: lock_job_shared$
-- Take the job's lock (class 7741, docs/architecture.md) shared: pause and cancel take it exclusively. The lane's lock
-- (7745) tells the sweeper that a worker has the lane. The time limits come first, so that they apply to these locks
-- too: Postgres computes columns in this order.
select set_config('lock_timeout', :lock_ms, true),
    set_config('idle_in_transaction_session_timeout', :idle_ms, true),
    set_config('statement_timeout', :statement_ms, true),
    case when current_setting('transaction_timeout', true) is not null then
        set_config('transaction_timeout', :transaction_ms, true) end,
    pg_advisory_xact_lock_shared(7741, hashint8(:job_id)),
    pg_advisory_xact_lock_shared(7745, hashint8(:job_id::bigint * 1024 + :lane::int));

-- name: lock_job_exclusive$
-- Wait for the chunks of the job that are in work, and let none start before the transaction ends. Class 7741 is the
-- job's lock.
select pg_advisory_xact_lock(7741, hashint8(:job_id));

-- name: claim_next_chunk^
-- The next chunk that no worker has, if the job is running. The row lock is the lease. `share` (0 to 1) says how far
-- into the job's chunks the search begins; the chunks before that point come last. Contacts that were imported together
-- often hold the same addresses, so workers that begin far apart do not wait for each other. A chunk that another lane
-- has recorded belongs to that lane until it is given up or its worker is lost. Such a chunk may be unlocked because
-- its transaction was rolled back, and only the sweeper can tell that from a lost worker.
with bounds as materialized (
    select floor(max(chunk_no) * :share::float8) as first from job_chunks
    where account_id = :account_id and job_id = :job_id
), others as materialized (
    select coalesce(array_agg(chunk_no) filter (where chunk_no is not null), '{}') as chunk_nos
    from job_lanes
    where account_id = :account_id and job_id = :job_id and lane <> :lane and state = 'held'
), ahead as materialized (
    select c.chunk_no, c.item_ids, c.attempts, c.suspect_attempts
    from job_chunks c
    where c.account_id = :account_id and c.job_id = :job_id
      and c.chunk_no > (select first from bounds)::int
      and c.state = 'pending'
      and c.runnable_at <= clock_timestamp()
      and exists (select from jobs j where j.account_id = :account_id and j.id = :job_id
                  and j.state = 'running')
      and c.chunk_no <> all((select chunk_nos from others)::int[])
    order by c.chunk_no
    limit 1
    for update of c skip locked
), behind as materialized (
    select c.chunk_no, c.item_ids, c.attempts, c.suspect_attempts
    from job_chunks c
    where not exists (select from ahead)
      and c.account_id = :account_id and c.job_id = :job_id
      and c.chunk_no <= (select first from bounds)::int
      and c.state = 'pending'
      and c.runnable_at <= clock_timestamp()
      and exists (select from jobs j where j.account_id = :account_id and j.id = :job_id
                  and j.state = 'running')
      and c.chunk_no <> all((select chunk_nos from others)::int[])
    order by c.chunk_no
    limit 1
    for update of c skip locked
)
select * from ahead union all select * from behind;

-- name: claim_chunk_by_number^
-- The chunk of that number, if no worker has it and the job is running.
select c.chunk_no, c.item_ids, c.attempts, c.suspect_attempts
from job_chunks c
where c.account_id = :account_id and c.job_id = :job_id
  and c.chunk_no = :chunk_no
  and c.state = 'pending'
  and c.runnable_at <= clock_timestamp()
  and exists (select from jobs j where j.account_id = :account_id and j.id = :job_id
                  and j.state = 'running')
for update of c skip locked;

-- name: count_attempt$
-- Count an attempt before it is made, so that it counts even if it ends its process, and record the chunk in the
-- lane. Nothing is counted, and no row returned, if another worker holds the lane by now, or has counted an
-- attempt of its own since the chunk was read.
with chunk as materialized (
    select c.chunk_no
    from job_chunks c
    where c.account_id = :account_id and c.job_id = :job_id and c.chunk_no = :chunk_no
      and c.state = 'pending' and c.runnable_at <= clock_timestamp()
      and c.suspect_attempts is not distinct from :suspect_attempts::smallint
      and exists (select from jobs j where j.account_id = :account_id and j.id = :job_id
                  and j.state = 'running')
      and not exists (
          select from job_lanes l
          where l.account_id = :account_id and l.job_id = :job_id and l.lane <> :lane and l.state = 'held'
            and l.chunk_no = c.chunk_no
      )
    for update of c skip locked
), recorded_lane as (
    update job_lanes l
    set chunk_no = chunk.chunk_no, touched_at = clock_timestamp()
    from chunk
    where l.account_id = :account_id and l.job_id = :job_id and l.lane = :lane and l.token = :token
      and l.state = 'held'
    returning l.chunk_no
)
update job_chunks c
set attempts = attempts + 1, suspect_attempts = coalesce(suspect_attempts, 0) + 1
from recorded_lane
where c.account_id = :account_id and c.job_id = :job_id and c.chunk_no = recorded_lane.chunk_no
returning c.chunk_no;

-- name: uncount_attempt!
-- Take back an attempt that was counted beforehand, but not made, or ended by a transient error.
update job_chunks
set attempts = greatest(attempts - 1, 0), suspect_attempts = greatest(suspect_attempts - 1, 0)
where account_id = :account_id and job_id = :job_id and chunk_no = :chunk_no and state = 'pending';

-- name: record_current_chunk$
-- Record which chunk a lane's worker works on, or that it has none. Losing this in a crash of Postgres does no
-- harm, so the commit does not wait for the disk.
update job_lanes
set chunk_no = :chunk_no
where account_id = :account_id and job_id = :job_id and lane = :lane and token = :token and state = 'held'
returning set_config('synchronous_commit', 'off', true) is not null;

-- name: terminate_overlong_chunks
-- End connections whose transaction on a chunk has lasted too long. Postgres 17 and newer do so themselves
-- (`transaction_timeout`). A worker that was stopped within a statement leaves no idle transaction, and would keep its
-- chunk for as long as it is stopped. Class 7741 is the job's lock.
select pid, pg_terminate_backend(pid) as ended
from pg_locks
join pg_stat_activity using (pid)
where locktype = 'advisory' and granted and mode = 'ShareLock'
  and pg_locks.database = (select oid from pg_database where datname = current_database())
  and classid = 7741 and objsubid = 2
  and xact_start < clock_timestamp() - make_interval(secs => :seconds);

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
where account_id = :account_id and job_id = :job_id and chunk_no = :chunk_no;

-- name: insert_done_chunk!
-- A done chunk without items, which counts what was propagated outside the other chunks.
insert into job_chunks (account_id, job_id, chunk_no, item_ids, pairs, state, propagated, finished_at)
values (:account_id, :job_id, :chunk_no, '{}', 0, 'done', :propagated, clock_timestamp())
on conflict (account_id, job_id, chunk_no) do update
set propagated = job_chunks.propagated + excluded.propagated;

-- name: lock_failed_chunk^
-- Lock a chunk that failed, if it is still pending, no worker has it, and its job still runs: after a pause or
-- cancel has answered, no contact may be rejected either.
select c.item_ids, c.attempts
from job_chunks c
where c.account_id = :account_id and c.job_id = :job_id and c.chunk_no = :chunk_no
  and c.state = 'pending'
  and exists (select from jobs j where j.account_id = :account_id and j.id = :job_id
                  and j.state = 'running')
for update of c skip locked;

-- name: postpone_chunk!
-- Count the attempt, and set when the next is due. If the attempt was counted before it was made, it has ended
-- without losing its worker.
update job_chunks
set attempts = :attempts,
    suspect_attempts = case when :counted then greatest(suspect_attempts - 1, 0)
        else suspect_attempts end,
    error = :error,
    runnable_at = clock_timestamp() + make_interval(secs => :delay_seconds)
where account_id = :account_id and job_id = :job_id and chunk_no = :chunk_no;

-- name: lock_chunk_numbers$
-- Let one transaction at a time number new chunks of a job, by a lock of class 7744 (docs/architecture.md).
select pg_advisory_xact_lock(7744, hashint8(:job_id));

-- name: split_chunk!
-- Replace a chunk by its two halves. The halves of a suspect chunk are suspect too.
with numbered as (
    select coalesce(max(chunk_no), 0) as last from job_chunks
    where account_id = :account_id and job_id = :job_id
), whole as (
    update job_chunks
    set state = 'split', attempts = :attempts, error = :error, finished_at = clock_timestamp()
    where account_id = :account_id and job_id = :job_id and chunk_no = :chunk_no
    returning item_ids, pairs / cardinality(item_ids) as fields,
        -- Halves of a suspect are suspects without attempts; null stays null.
        suspect_attempts * 0 as suspect_attempts
)
insert into job_chunks (account_id, job_id, chunk_no, item_ids, pairs, suspect_attempts)
select :account_id, :job_id, numbered.last + half.no, half.ids, cardinality(half.ids) * whole.fields,
    whole.suspect_attempts
from whole
cross join numbered
cross join lateral (values
    (1, whole.item_ids[1 : (cardinality(whole.item_ids) / 2)]),
    (2, whole.item_ids[(cardinality(whole.item_ids) / 2) + 1 : (cardinality(whole.item_ids))])
) as half (no, ids);

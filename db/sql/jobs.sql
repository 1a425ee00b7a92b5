-- Jobs as they were submitted, and the states that an actor may set.

-- name: insert_job$
-- Store a job and its actor; no row if the account has a job with the same idempotency key.
with job as (
    insert into jobs (account_id, action, fields, params, evidence, selection, requested_by,
                      idempotency_key, request_hash, correlation_id, plan_first,
                      actor_kind, actor_id, via)
    values (:account_id, :action, :fields::smallint[], :params::jsonb, :evidence::jsonb,
            :selection::jsonb, :requested_by, :idempotency_key, :request_hash,
            :correlation_id::text, :plan_first, :actor_kind::text, :actor_id::bigint, :via::text)
    on conflict (account_id, idempotency_key) do nothing
    returning id
), activity_row as (
    insert into activity (account_id, actor_kind, actor_id, via, event, job_id, correlation_id)
    select :account_id, :actor_kind::text, :actor_id::bigint, :via::text, 'job.submitted',
           job.id, :correlation_id::text
    from job
)
select id from job;

-- name: list_jobs_by_key
-- The jobs that have the idempotency keys, or contain the events that have them, with the hash of each request, the
-- job's state, and whether a completed job has contacts or addresses that failed.
with keyed_requests as (
    select idempotency_key, request_hash, id as job_id
    from jobs
    where account_id = :account_id and idempotency_key = any(:idempotency_keys::text[])
    union all
    select idempotency_key, request_hash, job_id
    from merged_events
    where account_id = :account_id and idempotency_key = any(:idempotency_keys::text[])
)
select j.id, keyed_requests.idempotency_key, keyed_requests.request_hash, j.state,
       j.state = 'completed' and exists (
           select from job_chunks c
           where c.account_id = :account_id and c.job_id = j.id
             and c.reasons ? 'rejected:internal_error'
       ) as has_failures
from keyed_requests join jobs j on j.account_id = :account_id and j.id = keyed_requests.job_id;

-- name: insert_merged_events!
-- Keep the keys of the events that a job has taken in, but for those that have one.
insert into merged_events (account_id, idempotency_key, request_hash, job_id)
select :account_id, e.idempotency_key, e.request_hash, :job_id
from unnest(:idempotency_keys::text[], :request_hashes::text[]) as e (idempotency_key, request_hash)
order by e.idempotency_key
on conflict do nothing;

-- name: account_of_job$
-- The account of a job, by the job's id alone.
select account_id from jobs where id = :job_id;

-- name: get_job^
-- One job.
select j.*, a.name as account
from jobs j join accounts a on a.id = j.account_id
where j.account_id = :account_id and j.id = :job_id;

-- name: list_jobs
-- The newest jobs of all accounts before the job :before and from :oldest on; only those in the given states, if
-- any are given.
select j.*, a.name as account
from jobs j join accounts a on a.id = j.account_id
where j.id < :before and j.id >= :oldest
  and (:in_states::job_state[] is null or j.state = any(:in_states))
order by j.id desc
limit :limit;

-- name: list_jobs_of_account
-- The newest jobs of one account before the job :before and from :oldest on; only those in the given states and of
-- the given action, if any are given.
select j.*, a.name as account
from jobs j join accounts a on a.id = j.account_id
where j.account_id = :account_id and j.id < :before and j.id >= :oldest
  and (:in_states::job_state[] is null or j.state = any(:in_states))
  and (:of_action::text is null or j.action = :of_action)
order by j.id desc
limit :limit;

-- name: find_oldest_job_to_scan_of_account$
-- The oldest of the :limit newest jobs of one account before the job :before; no row if there are fewer.
select id from jobs
where account_id = :account_id and id < :before
order by id desc
offset :limit - 1 limit 1;

-- name: find_oldest_job_to_scan$
-- The oldest of the :limit newest jobs of all accounts before the job :before; no row if there are fewer.
select id from jobs
where id < :before
order by id desc
offset :limit - 1 limit 1;

-- name: set_timeouts!
-- Let the transaction wait at most :lock_ms for a lock, and be idle for at most :idle_ms.
select set_config('lock_timeout', :lock_ms, true),
       set_config('idle_in_transaction_session_timeout', :idle_ms, true);

-- name: terminate_chunks
-- End the connections that work on a chunk of the job, which rolls their transactions back. A pause or cancel then need
-- not wait for a worker that was stopped or cut off. Class 7741 is the job's lock (docs/architecture.md).
select pid, pg_terminate_backend(pid) as ended
from pg_locks
where locktype = 'advisory' and granted and mode = 'ShareLock'
  and database = (select oid from pg_database where datname = current_database())
  and classid = 7741 and objid = (hashint8(:job_id)::bigint & 4294967295)::oid and objsubid = 2
  and pid <> pg_backend_pid();

-- name: set_state$
-- Pause or resume a job; no row if it is in none of :from_states. A job that was not yet planned or confirmed resumes
-- as `planning`.
update jobs
set state = case when :to_state::job_state = 'running'
                  and (planned_at is null or (plan_first and confirmed_at is null))
                 then 'planning' else :to_state::job_state end
where account_id = :account_id and id = :job_id and state = any (:from_states::job_state[])
returning state;

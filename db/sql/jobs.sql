-- Accounts and jobs: what was asked for, where it stands, and the states a person may set.

-- name: get_account_id$
-- The id of the account called :name.
select id from accounts where name = :name;

-- name: create_account$
-- Create the account called :name; no row when there is one already.
insert into accounts (name) values (:name) on conflict (name) do nothing returning id;

-- name: list_accounts
-- Every account, by name.
select id, name, created_at from accounts order by name;

-- name: tag_exists$
-- Whether the account has a tag called :tag.
select exists (select from tags where account_id = :account_id and name = :tag);

-- name: list_tags
-- Some names of tags that the account has, to help a person who mistyped one.
select name from tags where account_id = :account_id order by name limit :limit;

-- name: insert_job$
-- Store a job, and who asked for it; no row when the account has one with the same idempotency key.
with job as (
    insert into jobs (account_id, action, fields, params, evidence, selection, requested_by,
                      idempotency_key, request_hash, correlation_id, plan_first,
                      actor_kind, actor_id, via)
    values (:account_id, :action, :fields::smallint[], :params::jsonb, :evidence::jsonb,
            :selection::jsonb, :requested_by, :idempotency_key, :request_hash,
            :correlation_id::text, :plan_first, :actor_kind::text, :actor_id::bigint, :via::text)
    on conflict (account_id, idempotency_key) do nothing
    returning id, account_id
), told as (
    insert into activity (account_id, actor_kind, actor_id, via, act, job_id, correlation_id)
    select job.account_id, :actor_kind::text, :actor_id::bigint, :via::text, 'job.submitted',
           job.id, :correlation_id::text
    from job
)
select id from job;

-- name: list_jobs_by_key
-- The jobs that used the idempotency keys, or took in the events that have them; what was asked for with
-- each key, the job's state, and whether workers had to give up rows of it, which is completed all the same.
with told as (
    select idempotency_key, request_hash, id as job_id
    from jobs
    where account_id = :account_id and idempotency_key = any(:idempotency_keys::text[])
    union all
    select idempotency_key, request_hash, job_id
    from merged_events
    where account_id = :account_id and idempotency_key = any(:idempotency_keys::text[])
)
select j.id, told.idempotency_key, told.request_hash, j.state,
       j.state = 'completed' and exists (
           select from job_chunks c
           where c.job_id = j.id and c.reasons ? 'rejected:internal_error'
       ) as has_failures
from told join jobs j on j.id = told.job_id;

-- name: insert_merged_events!
-- Keep the keys of the events that a job has taken in, but for those that have one.
insert into merged_events (account_id, idempotency_key, request_hash, job_id)
select :account_id, e.idempotency_key, e.request_hash, :job_id
from unnest(:idempotency_keys::text[], :request_hashes::text[]) as e (idempotency_key, request_hash)
order by e.idempotency_key
on conflict do nothing;

-- name: get_job^
-- One job, in any account unless :account_id is given.
select j.*, a.name as account
from jobs j join accounts a on a.id = j.account_id
where j.id = :job_id and (:account_id::bigint is null or j.account_id = :account_id);

-- name: list_jobs
-- The newest jobs of all accounts before the job :before and from :oldest on, in one of the states
-- where some are given.
select j.*, a.name as account
from jobs j join accounts a on a.id = j.account_id
where j.id < :before and j.id >= :oldest
  and (:in_states::job_state[] is null or j.state = any(:in_states))
order by j.id desc
limit :limit;

-- name: list_jobs_of_account
-- The newest jobs of one account before the job :before and from :oldest on, in one of the states
-- or of one action where those are given.
select j.*, a.name as account
from jobs j join accounts a on a.id = j.account_id
where j.account_id = :account_id and j.id < :before and j.id >= :oldest
  and (:in_states::job_state[] is null or j.state = any(:in_states))
  and (:of_action::text is null or j.action = :of_action)
order by j.id desc
limit :limit;

-- name: oldest_scanned_job_of_account$
-- The last of the :limit jobs of one account that come before the job :before.
select id from jobs
where account_id = :account_id and id < :before
order by id desc
offset :limit - 1 limit 1;

-- name: oldest_scanned_job$
-- The last of the :limit jobs of all accounts that come before the job :before.
select id from jobs
where id < :before
order by id desc
offset :limit - 1 limit 1;

-- name: get_state$
-- Where one job stands.
select state from jobs where id = :job_id;

-- name: read_job_counts^
-- How far a job is right now, from its chunks: the job's own counts lag by about a second.
with chunks as materialized (
    select chunk_no, state, pairs, attempts, error, applied, unchanged, rejected, empty,
           propagated, reasons, finished_at
    from job_chunks where job_id = :job_id
)
select j.state, j.planned_at, j.selected, clock_timestamp() as at,
       exists (select from job_lanes l where l.job_id = j.id and l.state = 'taken') as is_held,
       s.*,
       (select c.error from chunks c where c.state = 'pending' and c.error is not null
        order by c.chunk_no limit 1) as last_error,
       coalesce((select jsonb_object_agg(r.reason, r.rows order by r.reason)
                 from (select e.key as reason, sum(e.value::bigint) as rows
                       from chunks c, jsonb_each_text(c.reasons) e
                       where c.state = 'done' group by e.key) r), '{}') as reasons
from jobs j
cross join (
    select count(*) filter (where state = 'done') as chunks_done,
           count(*) filter (where state = 'pending') as chunks_pending,
           count(*) filter (where state = 'split') as chunks_split,
           coalesce(sum(attempts), 0) as attempts,
           coalesce(sum(pairs) filter (where state = 'done'), 0) as done,
           coalesce(sum(pairs) filter (where state <> 'split'), 0) as planned,
           coalesce(sum(pairs) filter (where state = 'done' and finished_at
               > clock_timestamp() - make_interval(secs => :recent_seconds)), 0) as done_recently,
           coalesce(sum(applied) filter (where state = 'done'), 0) as applied,
           coalesce(sum(unchanged) filter (where state = 'done'), 0) as unchanged,
           coalesce(sum(rejected) filter (where state = 'done'), 0) as rejected,
           coalesce(sum(empty) filter (where state = 'done'), 0) as empty,
           coalesce(sum(propagated) filter (where state = 'done'), 0) as propagated
    from chunks
) s
where j.id = :job_id;

-- name: read_job_progress^
-- What a progress bar needs several times a second: the state, and the pairs accounted for.
select j.state, j.planned_at,
       exists (select from job_lanes l where l.job_id = j.id and l.state = 'taken') as is_held,
       coalesce(sum(c.pairs) filter (where c.state = 'done'), 0) as done,
       coalesce(sum(c.pairs) filter (where c.state <> 'split'), 0) as planned
from jobs j left join job_chunks c on c.job_id = j.id
where j.id = :job_id
group by j.id;

-- name: set_lock_timeout!
-- Let the transaction wait at most :milliseconds for any lock, and not last for ever itself.
select set_config('lock_timeout', :milliseconds, true),
       set_config('idle_in_transaction_session_timeout', :idle_ms, true);

-- name: terminate_chunks
-- End the connections that work a chunk of the job, whose transactions are rolled back by that:
-- what a stopped or cut off worker has begun is not waited for.
select pid, pg_terminate_backend(pid) as ended
from pg_locks
where locktype = 'advisory' and granted and mode = 'ShareLock'
  and database = (select oid from pg_database where datname = current_database())
  and classid = 7741 and objid = (hashint8(:job_id)::bigint & 4294967295)::oid and objsubid = 2
  and pid <> pg_backend_pid();

-- name: set_state$
-- Pause or resume; no row when the job is not in one of the states :from_states. A job whose
-- selection was not frozen yet, or that was not confirmed yet, is resumed to `planning`.
update jobs
set state = case when :to_state::job_state = 'running'
                  and (planned_at is null or (plan_first and confirmed_at is null))
                 then 'planning' else :to_state::job_state end
where id = :job_id and state = any (:from_states::job_state[])
returning state;

-- name: cancel$
-- End the job with the counts of what was done; no row when it is not in one of :from_states.
update jobs j
set state = 'cancelled', finished_at = clock_timestamp(),
    applied = c.applied, unchanged = c.unchanged, rejected = c.rejected,
    empty = c.empty, propagated = c.propagated
from job_sums(:job_id) c
where j.id = :job_id and j.state = any (:from_states::job_state[])
returning j.state;

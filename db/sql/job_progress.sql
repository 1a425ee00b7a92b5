-- The progress of a job: its start, its counts and its end.

-- name: get_job_to_work^
-- What a worker needs to know of a job.
select id, account_id, action, state, fields, params, correlation_id, planned_at, started_at
from jobs
where account_id = :account_id and id = :job_id;

-- name: mark_started$
-- Record the start of the first worker; no row if the job had started before.
update jobs set started_at = clock_timestamp()
where account_id = :account_id and id = :job_id and started_at is null
returning true;

-- name: refresh_counts!
-- Set the job's counts to the sums of its chunks.
update jobs j
set applied = c.applied, unchanged = c.unchanged, rejected = c.rejected, empty = c.empty,
    propagated = c.propagated
from job_sums(:account_id, :job_id) c
where j.account_id = :account_id and j.id = :job_id and j.state in ('running', 'paused');

-- name: has_pending_chunks$
-- Whether a running job has chunks left, or is not running at all.
select not exists (select from jobs
                   where account_id = :account_id and id = :job_id and state = 'running')
    or exists (select from job_chunks
               where account_id = :account_id and job_id = :job_id and state = 'pending');

-- name: complete_job^
-- Complete the job if no chunk is pending. A constraint rejects this unless the counts add up.
update jobs j
set state = 'completed', finished_at = clock_timestamp(),
    applied = c.applied, unchanged = c.unchanged, rejected = c.rejected, empty = c.empty,
    propagated = c.propagated
from job_sums(:account_id, :job_id) c
where j.account_id = :account_id and j.id = :job_id
  and j.state = 'running'
  and not exists (
      select from job_chunks p
      where p.account_id = :account_id and p.job_id = :job_id and p.state = 'pending'
  )
returning j.selected, j.applied, j.unchanged, j.rejected, j.empty, j.propagated,
          extract(epoch from j.finished_at - j.created_at)::float8 as seconds;

-- name: end_job$
-- End a job as failed or cancelled, with the counts of what was done, which stays; no row if it is in none of
-- :from_states.
update jobs j
set state = :to_state::job_state, finished_at = clock_timestamp(), error = :error,
    applied = c.applied, unchanged = c.unchanged, rejected = c.rejected, empty = c.empty,
    propagated = c.propagated
from job_sums(:account_id, :job_id) c
where j.account_id = :account_id and j.id = :job_id and j.state = any (:from_states::job_state[])
returning j.state;

-- name: has_only_rejections$
-- Whether at least :limit items were rejected one by one and no chunk has succeeded.
select count(*) filter (where error is not null) >= :limit::int
   and count(*) filter (where error is null) = 0
from job_chunks where account_id = :account_id and job_id = :job_id and state = 'done';

-- name: get_state$
-- The state of one job.
select state from jobs where account_id = :account_id and id = :job_id;

-- name: read_job_counts^
-- The progress of a job from its chunks: the counts in the job's row lag by about a second.
with chunks as materialized (
    select chunk_no, state, pairs, attempts, error, applied, unchanged, rejected, empty,
           propagated, reasons, finished_at
    from job_chunks
    where account_id = :account_id and job_id = :job_id
)
select j.state, j.planned_at, j.selected, clock_timestamp() as at,
       exists (select from job_lanes l where l.account_id = :account_id and l.job_id = :job_id
                 and l.state = 'held') as is_held,
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
where j.account_id = :account_id and j.id = :job_id;

-- name: read_job_progress^
-- What a progress bar needs several times a second: the state and the pairs that are done.
select j.state, j.planned_at,
       exists (select from job_lanes l where l.account_id = :account_id and l.job_id = :job_id
                 and l.state = 'held') as is_held,
       coalesce(sum(c.pairs) filter (where c.state = 'done'), 0) as done,
       coalesce(sum(c.pairs) filter (where c.state <> 'split'), 0) as planned
from jobs j left join job_chunks c on c.account_id = :account_id and c.job_id = j.id
where j.account_id = :account_id and j.id = :job_id
group by j.account_id, j.id;

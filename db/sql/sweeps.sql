-- What one process does for the fleet: whose turn it is, which jobs no worker has, and the suggested workers.

-- name: ping$
-- Whether Postgres answers.
select true;

-- name: try_sweep$
-- Whether it is this process's turn to sweep. A locked row means that another process takes it now.
update sweeps set swept_at = clock_timestamp()
where only_row in (
    select only_row from sweeps
    where swept_at < clock_timestamp() - make_interval(secs => :every_seconds)
    for update skip locked
)
returning true;

-- name: try_begin_queue_stats$
-- Whether it is this process's turn to measure the queues. It does not wait for a process that sweeps.
update sweeps set measured_at = clock_timestamp()
where only_row in (
    select only_row from sweeps
    where measured_at < clock_timestamp() - make_interval(secs => :every_seconds)
    for update skip locked
)
returning true;

-- name: list_stalled_plans
-- Jobs of all accounts that wait to be planned and show no sign of progress.
select j.account_id, j.id as job_id, j.action, j.correlation_id
from jobs j
left join job_lanes l on l.account_id = j.account_id and l.job_id = j.id and l.lane = 0
where j.state = 'planning'
  and j.created_at < clock_timestamp() - make_interval(secs => :stalled_after_seconds)
  and (l.job_id is null or l.touched_at
      < clock_timestamp() - make_interval(secs => :stalled_after_seconds * 2 ^ least(l.requeues, 1)))
order by j.id;

-- name: requeue_plan$
-- Whether to enqueue a job again that waits to be planned. The wait doubles once.
insert into job_lanes (account_id, job_id, lane, state)
select account_id, id, 0, 'idle' from jobs
where account_id = :account_id and id = :job_id and state = 'planning'
on conflict (account_id, job_id, lane) do update
set touched_at = clock_timestamp(), requeues = least(job_lanes.requeues + 1, 100)
where job_lanes.touched_at
    < clock_timestamp() - make_interval(secs => :stalled_after_seconds * 2 ^ least(job_lanes.requeues, 1))
returning true;

-- name: list_running_jobs
-- The jobs of all accounts that should be making progress.
select account_id, id as job_id, action, correlation_id from jobs where state = 'running' order by id;

-- name: get_worker_absence^
-- For how long no worker has swept or measured since Postgres started, and whether that was logged.
select extract(epoch from clock_timestamp()
           - greatest(swept_at, measured_at, pg_postmaster_start_time()))::float8 as unattended_for_seconds,
       unattended_at is not null as is_told
from sweeps;

-- name: try_report_absence$
-- Whether it is this process's turn to log that no worker comes. It does not wait for a sweeper.
update sweeps set unattended_at = clock_timestamp()
where only_row in (
    select only_row from sweeps
    where unattended_at is null
       or unattended_at < clock_timestamp() - make_interval(secs => :every_seconds)
    for update skip locked
)
returning true;

-- name: try_report_return$
-- Whether it is this process's turn to log that workers come again.
update sweeps set unattended_at = null
where only_row in (select only_row from sweeps where unattended_at is not null for update skip locked)
returning true;

-- name: get_suggestion^
-- The last suggestion, when it was made, the most workers that were needed since, and the present time.
select suggested_workers, suggested_peak, extract(epoch from suggested_at)::float8 as at,
       extract(epoch from clock_timestamp())::float8 as now
from sweeps;

-- name: store_suggestion!
-- Store a suggestion that follows the last one, unless another process has stored one meanwhile.
update sweeps
set suggested_workers = :workers, suggested_peak = :peak, suggested_at = to_timestamp(:at::float8)
where only_row in (
    select only_row from sweeps
    where suggested_workers is not distinct from :workers_before::int
      and suggested_peak is not distinct from :peak_before::int
    for update skip locked
);

-- A job's life between its plan and its end, and the lanes by which workers come to it.

-- name: ping$
-- Whether Postgres answers.
select true;

-- name: get_job_to_work^
-- What a worker needs to know of a job.
select id, account_id, action, state, fields, params, correlation_id, planned_at, started_at
from jobs
where id = :job_id;

-- name: mark_started$
-- The moment when the first worker came; nothing if one had come before.
update jobs set started_at = clock_timestamp()
where id = :job_id and started_at is null
returning true;

-- name: refresh_counts!
-- Bring the job's counts up to what its chunks say.
update jobs j
set applied = c.applied, unchanged = c.unchanged, rejected = c.rejected, empty = c.empty,
    propagated = c.propagated
from job_sums(:job_id) c
where j.id = :job_id and j.state in ('running', 'paused');

-- name: has_pending_chunks$
-- Whether a running job has chunks left, or is not running at all.
select not exists (select from jobs where id = :job_id and state = 'running')
    or exists (select from job_chunks where job_id = :job_id and state = 'pending');

-- name: complete_job^
-- End the job when no chunk is left. The database refuses this unless the counts add up.
update jobs j
set state = 'completed', finished_at = clock_timestamp(),
    applied = c.applied, unchanged = c.unchanged, rejected = c.rejected, empty = c.empty,
    propagated = c.propagated
from job_sums(:job_id) c
where j.id = :job_id
  and j.state = 'running'
  and not exists (
      select from job_chunks p where p.job_id = :job_id and p.state = 'pending'
  )
returning j.selected, j.applied, j.unchanged, j.rejected, j.empty, j.propagated,
          extract(epoch from j.finished_at - j.created_at)::float8 as seconds;

-- name: fail_job^
-- End the job because it cannot be done; what was done stays.
update jobs j
set state = 'failed', finished_at = clock_timestamp(), error = :error,
    applied = c.applied, unchanged = c.unchanged, rejected = c.rejected, empty = c.empty,
    propagated = c.propagated
from job_sums(:job_id) c
where j.id = :job_id and j.state in ('planning', 'running')
returning j.id;

-- name: has_only_rejections$
-- Whether nothing of a running job can be done: so many contacts were refused one by one, and no
-- chunk was ever done.
select count(*) filter (where error is not null) >= :refused::int
   and count(*) filter (where error is null) = 0
from job_chunks where job_id = :job_id and state = 'done';

-- name: insert_lanes!
-- The job's lanes, no more than it has chunks, at rest.
insert into job_lanes (job_id, lane, state)
select :job_id, generate_series(0, least(
    :lanes::int,
    greatest(1, (select count(*) from job_chunks where job_id = :job_id and state = 'pending'))
) - 1), 'idle'
on conflict (job_id, lane) do nothing;

-- name: queue_idle_lanes
-- Lanes at rest, to be rung, with the hop that counts: at most :limit, no more than there are chunks that
-- can be worked now besides one for each lane that does not rest, and :min_lanes in any case; none where the
-- job does not run. Chunks are counted and not locked: who claims one passes over what is locked. They are chosen once and for all: a plan that asked again for each lane would choose others
-- each time, and in the end all of them.
with awake as materialized (
    select count(*) as lanes from job_lanes where job_id = :job_id and state <> 'idle'
), pending as materialized (
    select from job_chunks
    where job_id = :job_id and state = 'pending' and runnable_at <= clock_timestamp()
    limit :limit + (select lanes from awake)
), resting as materialized (
    select lane from job_lanes
    where job_id = :job_id and state = 'idle'
      and exists (select from jobs where id = :job_id and state = 'running')
    order by lane
    limit greatest(:min_lanes::int, least(:limit::int, (select count(*) from pending) - (select lanes from awake)))
    for update skip locked
)
update job_lanes l
set state = 'rung', touched_at = clock_timestamp(), silent_rings = 0, lost = 0
from resting
where l.job_id = :job_id and l.lane = resting.lane
returning l.lane, l.hop;

-- name: hold_lane^
-- Come to work on a lane. Nothing when the message is one of an earlier ring.
update job_lanes
set hop = hop + 1, state = 'taken', touched_at = clock_timestamp(), silent_rings = 0,
    worker = :worker, chunk_no = null
where job_id = :job_id and lane = :lane and hop = :hop
returning hop, lost;

-- name: holds_lane$
-- Whether the lane still stands at that hop.
select exists (
    select from job_lanes where job_id = :job_id and lane = :lane and hop = :hop
);

-- name: touch_lane$
-- Show that the lane's worker lives. What a crash of Postgres forgets is no harm.
update job_lanes
set touched_at = clock_timestamp()
where job_id = :job_id and lane = :lane and hop = :hop and state = 'taken'
returning set_config('synchronous_commit', 'off', true) is not null;

-- name: release_lane$
-- Leave a lane, to be rung again (`rung`) or not (`idle`); nothing when someone else has it.
update job_lanes
set hop = hop + 1, state = :state, touched_at = clock_timestamp(), lost = 0, chunk_no = null
where job_id = :job_id and lane = :lane and hop = :hop
returning hop;

-- name: recover_lane$
-- Leave a lane by another connection than the one that broke, to be rung again (`rung`) or not (`idle`);
-- nothing when someone else has it by now. Its worker lives, so that it does not count as lost.
update job_lanes
set hop = hop + 1, state = :state, touched_at = clock_timestamp(), chunk_no = null
where job_id = :job_id and lane = :lane and hop = :hop and state = 'taken'
returning hop;

-- name: try_sweep$
-- Whether it is this process's turn to sweep. A process that takes its turn meanwhile is not waited for.
update sweeps set swept_at = clock_timestamp()
where one in (
    select one from sweeps
    where swept_at < clock_timestamp() - make_interval(secs => :every_seconds)
    for update skip locked
)
returning true;

-- name: try_begin_queue_stats$
-- Whether it is this process's turn to measure. Who sweeps meanwhile is not waited for.
update sweeps set measured_at = clock_timestamp()
where one in (
    select one from sweeps
    where measured_at < clock_timestamp() - make_interval(secs => :every_seconds)
    for update skip locked
)
returning true;

-- name: list_stalled_plans
-- Jobs that wait to be planned and of which nothing was heard for a while; the wait doubles once.
insert into job_lanes (job_id, lane, state)
select j.id, 0, 'idle' from jobs j
where j.state = 'planning'
  and j.created_at < clock_timestamp() - make_interval(secs => :stalled_after_seconds)
on conflict (job_id, lane) do update
set touched_at = clock_timestamp(), silent_rings = least(job_lanes.silent_rings + 1, 100)
where job_lanes.touched_at
    < clock_timestamp() - make_interval(secs => :stalled_after_seconds * 2 ^ least(job_lanes.silent_rings, 1))
returning job_id, (select action from jobs where id = job_id) as action;

-- name: list_running_jobs
-- The jobs that should be making progress.
select id, account_id, action, correlation_id from jobs where state = 'running' order by id;

-- name: requeue_stalled_lanes
-- The lanes of a job to ring again, at most `most`, and no more than there are runnable chunks that no
-- worker holds; one where only the end is missing and no worker is at that. They are idle ones, and
-- those silent for longer than the wait, which doubles once. A lane that was rung before keeps its hop,
-- so that the ring which still waits in the queue counts as well as the new one; a lane that a worker
-- vanished with gets a new one.
-- Whether it vanished is told by the lane's lock, which every transaction on a chunk holds: a worker that
-- waits in one, however long, is not lost. `lost_chunk` is what a lost worker had in hand: it is suspected
-- from now on, and worked alone, with its attempts counted before they are made. Where it is not known,
-- the next worker works the lane with care.
-- While Postgres was away no worker could say anything: silence counts from its start on. Of those at
-- rest one is rung: the worker that takes it wakes the next.
-- One statement, so that a sweeper which is stopped keeps no lock, and nothing waits for the disk: what a
-- crash of Postgres forgets is found by the next sweep.
with silent as materialized (
    select lane, state, worker, chunk_no from job_lanes
    where job_id = :job_id
      and (state <> 'idle' or lane = (
          select min(lane) from job_lanes where job_id = :job_id and state = 'idle'))
      and greatest(touched_at, pg_postmaster_start_time()) < clock_timestamp()
          - make_interval(secs => case
          when state = 'idle' then 0.5
          else :stalled_after_seconds * 2 ^ least(silent_rings, 1)
      end)
    for update skip locked
), free as materialized (
    select from job_chunks
    where exists (select from silent)
      and job_id = :job_id and state = 'pending' and runnable_at <= clock_timestamp()
    order by chunk_no
    limit :limit
    for update skip locked
), unattended as materialized (
    select case
        when not exists (select from silent) then 0
        when exists (select from job_chunks where job_id = :job_id and state = 'pending') then
            (select count(*) from free)
        else pg_try_advisory_xact_lock(7741, hashint8(:job_id))::int
    end as lanes, set_config('synchronous_commit', 'off', true)
), judged as materialized (
    select silent.*, state <> 'taken'
        or pg_try_advisory_xact_lock(7745, hashint8(:job_id::bigint * 1024 + lane)) as has_nobody
    from silent
    where (select lanes from unattended) > 0
), chosen as materialized (
    select judged.*, judged.state = 'taken' as is_lost, (
        select c.chunk_no from job_chunks c
        where judged.state = 'taken'
          and c.job_id = :job_id and c.chunk_no = judged.chunk_no and c.state = 'pending'
    ) as lost_chunk
    from judged
    where has_nobody
    -- What a lost worker had in hand is touched by no other before its lane is found.
    order by state <> 'taken', lane
    limit (select lanes from unattended)
), suspected as (
    update job_chunks
    set careful_attempts = coalesce(careful_attempts, 0)
    where (job_id, chunk_no) in (
        select job_id, chunk_no from job_chunks
        where job_id = :job_id and chunk_no in (select lost_chunk from chosen) and state = 'pending'
        for update skip locked
    )
)
update job_lanes l
set hop = case when is_lost then l.hop + 1 else l.hop end,
    state = 'rung', touched_at = clock_timestamp(), chunk_no = null,
    silent_rings = case when chosen.state = 'idle' then 0 else least(l.silent_rings + 1, 100) end,
    lost = case when is_lost and lost_chunk is null then least(l.lost + 1, 100) else l.lost end
from chosen
where l.job_id = :job_id and l.lane = chosen.lane
returning l.lane, l.hop, chosen.state::text as found, chosen.worker, lost_chunk;

-- name: read_queue_loads
-- Per queue: what waits for a worker, for how long, and how much work it is. Chunks of running jobs
-- wait from when they can be worked, and not before their job came to run; a retry that is put off does
-- not wait yet. A job that waits for its plan, for its count or only for its end counts as one chunk.
-- A column is counted and not the row, for which the ids of every chunk would be fetched.
with recent as materialized (
    select job_id, sum(duration_ms) / 1000.0 as seconds, count(*) as chunks,
           (select action = any(:urgent_actions::text[]) from jobs where id = job_id) as urgent
    from (
        select job_id, duration_ms from job_chunks
        where state = 'done' and duration_ms is not null and runnable_at < finished_at
          and finished_at > now() - interval '2 minutes'
        order by finished_at desc
        limit 500
    ) c
    group by job_id
), found as materialized (
    select j.id, j.state = 'planning' as plans, j.action = any(:urgent_actions::text[]) as urgent,
           greatest(
               (select max(entered_at) from job_states where job_id = j.id), j.staged_at
           ) as entered_at,
           c.pending, c.runnable, c.runnable_since,
           case when c.pending = 0 then (
               select max(finished_at) from job_chunks where job_id = j.id
           ) end as last_done_at
    from jobs j
    left join lateral (
        select count(job_id) as pending,
               count(job_id) filter (where runnable_at <= clock_timestamp()) as runnable,
               min(runnable_at) as runnable_since
        from job_chunks
        where job_id = j.id and state = 'pending'
    ) c on j.state = 'running'
    where j.state in ('planning', 'running')
), waiting as materialized (
    select f.urgent, f.plans,
           case when f.plans or f.pending = 0 then 1 else f.runnable end as chunks,
           case when f.plans then f.entered_at
                when f.pending = 0 then greatest(f.entered_at, f.last_done_at)
                when f.runnable > 0 then greatest(f.entered_at, f.runnable_since)
           end as since,
           case when f.plans then :plan_seconds::float8 else 0 end as plan_seconds,
           coalesce(
               (select r.seconds / r.chunks from recent r where r.job_id = f.id),
               (select sum(r.seconds) / sum(r.chunks) from recent r where r.urgent = f.urgent),
               :chunk_seconds::float8
           )::float8 as chunk_seconds
    from found f
)
select
    q.queue,
    coalesce(sum(w.chunks), 0)::bigint as pending_chunks,
    count(*) filter (where w.plans) as planning_jobs,
    greatest(coalesce(extract(epoch from clock_timestamp() - min(w.since)), 0), 0)::float8 as oldest_seconds,
    count(*) filter (where not w.plans) as running_jobs,
    coalesce(sum(w.chunks * w.chunk_seconds + w.plan_seconds), 0)::float8 as work_seconds,
    coalesce(sum(least(w.chunks, :job_concurrency::int)), 0)::bigint as lanes
from (values ('opt_outs', true), ('bulk', false)) as q (queue, urgent)
left join waiting w on w.urgent = q.urgent
group by q.queue
order by q.queue;

-- name: count_due_deliveries$
-- How many completion notices wait to be delivered.
select count(due_at) from completion_notices
where delivered_at is null and abandoned_at is null and due_at <= now();

-- name: get_worker_absence^
-- For how long no worker has swept or measured since Postgres was started, and whether that was said.
select extract(epoch from clock_timestamp()
           - greatest(swept_at, measured_at, pg_postmaster_start_time()))::float8 as unattended_for_seconds,
       unattended_at is not null as is_told
from sweeps;

-- name: try_report_absence$
-- Whether it is this process's turn to say that no worker comes. A sweeper is not waited for.
update sweeps set unattended_at = clock_timestamp()
where one in (
    select one from sweeps
    where unattended_at is null
       or unattended_at < clock_timestamp() - make_interval(secs => :every_seconds)
    for update skip locked
)
returning true;

-- name: try_report_return$
-- Whether it is this process's turn to say that workers come again.
update sweeps set unattended_at = null
where one in (select one from sweeps where unattended_at is not null for update skip locked)
returning true;

-- name: get_suggestion^
-- How many workers were suggested, the most that were needed since, when, and what time it is.
select suggested_workers, suggested_peak, extract(epoch from suggested_at)::float8 as at,
       extract(epoch from clock_timestamp())::float8 as now
from sweeps;

-- name: store_suggestion!
-- Keep a suggestion that follows the one before, unless another process has kept one meanwhile.
update sweeps
set suggested_workers = :workers, suggested_peak = :peak, suggested_at = to_timestamp(:at::float8)
where one in (
    select one from sweeps
    where suggested_workers is not distinct from :workers_before::int
      and suggested_peak is not distinct from :peak_before::int
    for update skip locked
);

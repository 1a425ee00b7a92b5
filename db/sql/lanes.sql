-- A job's places in the queue, by which workers come to it.

-- name: insert_lanes!
-- The job's lanes, no more than it has chunks, at rest.
insert into job_lanes (account_id, job_id, lane, state)
select :account_id, :job_id, generate_series(0, least(
    :lanes::int,
    greatest(1, (select count(*) from job_chunks
                 where account_id = :account_id and job_id = :job_id and state = 'pending'))
) - 1), 'idle'
on conflict (account_id, job_id, lane) do nothing;

-- name: queue_idle_lanes
-- Idle lanes, to be enqueued, with their tokens: at most :limit, no more than there are chunks that can be
-- worked now besides one for each lane that is not idle, and :min_lanes in any case; none where the job does not
-- run. Chunks are counted and not locked: who claims one passes over what is locked. The lanes are chosen
-- once: a plan that asked again for each lane would choose others each time, and in the end all of them.
with awake as materialized (
    select count(*) as lanes from job_lanes
    where account_id = :account_id and job_id = :job_id and state <> 'idle'
), pending as materialized (
    select from job_chunks
    where account_id = :account_id and job_id = :job_id and state = 'pending'
      and runnable_at <= clock_timestamp()
    limit :limit + (select lanes from awake)
), resting as materialized (
    select lane from job_lanes
    where account_id = :account_id and job_id = :job_id and state = 'idle'
      and exists (select from jobs
                  where account_id = :account_id and id = :job_id and state = 'running')
    order by lane
    limit greatest(:min_lanes::int,
                   least(:limit::int, (select count(*) from pending) - (select lanes from awake)))
    for update skip locked
)
update job_lanes l
set state = 'queued', touched_at = clock_timestamp(), requeues = 0,
    lost_workers = 0
from resting
where l.account_id = :account_id and l.job_id = :job_id and l.lane = resting.lane
returning l.lane, l.token;

-- name: hold_lane^
-- Come to work on a lane. Nothing when the lane has another token by now.
update job_lanes
set token = token + 1, state = 'held', touched_at = clock_timestamp(), requeues = 0,
    worker = :worker, chunk_no = null
where account_id = :account_id and job_id = :job_id and lane = :lane and token = :token
returning token, lost_workers;

-- name: holds_lane$
-- Whether the lane still has that token.
select exists (
    select from job_lanes
    where account_id = :account_id and job_id = :job_id and lane = :lane and token = :token
);

-- name: touch_lane$
-- Show that the lane's worker lives. What a crash of Postgres forgets is no harm.
update job_lanes
set touched_at = clock_timestamp()
where account_id = :account_id and job_id = :job_id and lane = :lane and token = :token and state = 'held'
returning set_config('synchronous_commit', 'off', true) is not null;

-- name: release_lane$
-- Release a lane, to be enqueued again (`queued`) or not (`idle`); nothing if another worker has it. A recovery
-- is done by another connection than the one that broke. It leaves `lost_workers` as it is.
update job_lanes
set token = token + 1, state = :state, touched_at = clock_timestamp(), chunk_no = null,
    lost_workers = case when :is_recovery::boolean then lost_workers else 0 end
where account_id = :account_id and job_id = :job_id and lane = :lane and token = :token
returning token;

-- name: requeue_stalled_lanes
-- The lanes of a job to enqueue again, at most :limit, and no more than there are runnable chunks that no
-- worker holds; one where only the end is missing and no worker is at that. They are idle ones, and
-- those silent for longer than the wait, which doubles once. A lane that was enqueued before keeps its token,
-- so that the message which still waits counts as well as the new one; a lane whose worker was lost gets a
-- new one.
-- Whether it was lost is told by the lane's lock, which every transaction on a chunk holds: a worker that
-- waits in one, however long, is not lost. `lost_chunk` is what a lost worker had in hand: it is suspected
-- from now on, and worked alone, with its attempts counted before they are made. Where it is not known,
-- the next worker works the lane with care.
-- While Postgres was away no worker could say anything: silence counts from its start on. Of those at
-- rest one is rung: the worker that takes it wakes the next.
-- One statement, so that a sweeper which is stopped keeps no lock, and nothing waits for the disk: what a
-- crash of Postgres forgets is found by the next sweep.
with silent as materialized (
    select lane, state, worker, chunk_no from job_lanes
    where account_id = :account_id and job_id = :job_id
      and (state <> 'idle' or lane = (
          select min(lane) from job_lanes
          where account_id = :account_id and job_id = :job_id and state = 'idle'))
      and greatest(touched_at, pg_postmaster_start_time()) < clock_timestamp()
          - make_interval(secs => case
          when state = 'idle' then 0.5
          else :stalled_after_seconds * 2 ^ least(requeues, 1)
      end)
    for update skip locked
), free as materialized (
    select from job_chunks
    where exists (select from silent)
      and account_id = :account_id and job_id = :job_id and state = 'pending'
      and runnable_at <= clock_timestamp()
    order by chunk_no
    limit :limit
    for update skip locked
), unattended as materialized (
    select case
        when not exists (select from silent) then 0
        when exists (select from job_chunks
                     where account_id = :account_id and job_id = :job_id and state = 'pending') then
            (select count(*) from free)
        else pg_try_advisory_xact_lock(7741, hashint8(:job_id))::int
    end as lanes, set_config('synchronous_commit', 'off', true)
), judged as materialized (
    select silent.*, state <> 'held'
        or pg_try_advisory_xact_lock(7745, hashint8(:job_id::bigint * 1024 + lane)) as has_nobody
    from silent
    where (select lanes from unattended) > 0
), chosen as materialized (
    select judged.*, judged.state = 'held' as is_lost, (
        select c.chunk_no from job_chunks c
        where judged.state = 'held'
          and c.account_id = :account_id and c.job_id = :job_id
          and c.chunk_no = judged.chunk_no and c.state = 'pending'
    ) as lost_chunk
    from judged
    where has_nobody
    -- What a lost worker had in hand is touched by no other before its lane is found.
    order by state <> 'held', lane
    limit (select lanes from unattended)
), suspected as (
    update job_chunks
    set suspect_attempts = coalesce(suspect_attempts, 0)
    -- Arrays are looked up by the key, whatever the planner expects of a job with many chunks.
    where account_id = :account_id and job_id = :job_id and chunk_no = any (array(
        select chunk_no from job_chunks
        where account_id = :account_id and job_id = :job_id
          and chunk_no = any (array(select lost_chunk from chosen)) and state = 'pending'
        for update skip locked
    ))
)
update job_lanes l
set token = case when is_lost then l.token + 1 else l.token end,
    state = 'queued', touched_at = clock_timestamp(), chunk_no = null,
    requeues = case when chosen.state = 'idle' then 0 else least(l.requeues + 1, 100) end,
    lost_workers = case when is_lost and lost_chunk is null then least(l.lost_workers + 1, 100)
                        else l.lost_workers end
from chosen
where l.account_id = :account_id and l.job_id = :job_id and l.lane = chosen.lane
returning l.lane, l.token, chosen.state::text as found, chosen.worker, lost_chunk;

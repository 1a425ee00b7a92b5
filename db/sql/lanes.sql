-- A job's lanes, through which workers come to it.

-- name: insert_lanes!
-- Create the job's lanes, no more than it has chunks, as idle.
insert into job_lanes (account_id, job_id, lane, state)
select :account_id, :job_id, generate_series(0, least(
    :lanes::int,
    greatest(1, (select count(*) from (
        select from job_chunks
        where account_id = :account_id and job_id = :job_id and state = 'pending'
        limit :lanes::int) enough))
) - 1), 'idle'
on conflict (account_id, job_id, lane) do nothing;

-- name: queue_idle_lanes
-- Set idle lanes of a running job to queued, and return them with their tokens.
-- At most :limit lanes are queued, and with them no more lanes are in use than there are runnable chunks. But at least
-- :min_lanes are queued, if as many are idle.
-- Chunks are counted without a lock, so locked ones count too; a worker skips them.
-- The CTEs are materialized so that they choose the lanes once. Another plan could choose again for each lane that it
-- updates. Each choice would skip the locked lanes, so that in the end all of them were queued.
with not_idle as materialized (
    select count(*) as lanes from job_lanes
    where account_id = :account_id and job_id = :job_id and state <> 'idle'
), pending as materialized (
    select from job_chunks
    where account_id = :account_id and job_id = :job_id and state = 'pending'
      and runnable_at <= clock_timestamp()
    limit :limit + (select lanes from not_idle)
), idle as materialized (
    select lane from job_lanes
    where account_id = :account_id and job_id = :job_id and state = 'idle'
      and exists (select from jobs
                  where account_id = :account_id and id = :job_id and state = 'running')
    order by lane
    limit greatest(:min_lanes::int,
                   least(:limit::int, (select count(*) from pending) - (select lanes from not_idle)))
    for update skip locked
)
update job_lanes l
set state = 'queued', touched_at = clock_timestamp(), requeues = 0,
    lost_workers = 0
from idle
where l.account_id = :account_id and l.job_id = :job_id and l.lane = idle.lane
returning l.lane, l.token;

-- name: hold_lane^
-- Hold a lane; no row if it has another token by now.
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
-- Record that the lane's worker is alive. Losing this in a crash of Postgres does no harm.
update job_lanes
set touched_at = clock_timestamp()
where account_id = :account_id and job_id = :job_id and lane = :lane and token = :token and state = 'held'
returning set_config('synchronous_commit', 'off', true) is not null;

-- name: release_lane$
-- Release a lane, to be enqueued again (`queued`) or not (`idle`); no row if another worker has it. A recovery uses a
-- new connection, after the one that held the lane broke, and keeps `lost_workers`.
update job_lanes
set token = token + 1, state = :state, touched_at = clock_timestamp(), chunk_no = null,
    lost_workers = case when :is_recovery::boolean then lost_workers else 0 end
where account_id = :account_id and job_id = :job_id and lane = :lane and token = :token
returning token;

-- name: requeue_stalled_lanes
-- Set lanes of a job to queued that show no progress, and return them, so that the sweeper enqueues them again.
-- How many: at most :limit, and at most one for each runnable chunk that no worker has. If all chunks are done and
-- only the job has to be completed, one lane is enough; none if a worker is completing it.
-- Which: queued and held lanes that were silent for :stalled_after_seconds (twice as long after the first time), and
-- one idle lane. One is enough, because its worker enqueues other idle lanes after the first chunk. Silence counts from
-- the start of Postgres, because no worker could report while it was down.
-- A queued lane keeps its token, so that its earlier message is still valid. A lane whose worker was lost gets a new
-- token.
-- Class 7741 is the job's lock, class 7745 the lane's (docs/architecture.md). Every transaction on a chunk holds the
-- lock of its lane. A worker is lost if its lane was silent and nothing holds that lock. A worker that waits inside a
-- transaction, however long, is not lost.
-- `lost_chunk` is the chunk that the lost worker had; it becomes a suspect. If it is not known, the lane's next slice
-- treats every chunk as a suspect.
-- This is one statement, so that a stopped sweeper keeps no lock. The commit does not wait for the disk: if a crash of
-- Postgres loses it, the next sweep does the same again.
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
), lanes_wanted as materialized (
    select case
        when not exists (select from silent) then 0
        when exists (select from job_chunks
                     where account_id = :account_id and job_id = :job_id and state = 'pending') then
            (select count(*) from free)
        else pg_try_advisory_xact_lock(7741, hashint8(:job_id))::int
    end as count, set_config('synchronous_commit', 'off', true)
), judged as materialized (
    select silent.*, state <> 'held'
        or pg_try_advisory_xact_lock(7745, hashint8(:job_id::bigint * 1024 + lane)) as is_free
    from silent
    where (select count from lanes_wanted) > 0
), chosen as materialized (
    select judged.*, judged.state = 'held' as is_lost, (
        select c.chunk_no from job_chunks c
        where judged.state = 'held'
          and c.account_id = :account_id and c.job_id = :job_id
          and c.chunk_no = judged.chunk_no and c.state = 'pending'
    ) as lost_chunk
    from judged
    where is_free
    -- Lost workers first: no other worker may take their chunks before that.
    order by state <> 'held', lane
    limit (select count from lanes_wanted)
), suspected as (
    update job_chunks
    set suspect_attempts = coalesce(suspect_attempts, 0)
    -- Arrays, not a join: the planner expects one chunk of a new job, and would scan all its chunks for each row.
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

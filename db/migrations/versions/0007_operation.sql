-- What operators need: who did what, what a worker had in hand, and keys that end.

-- Lanes.

-- Who did what.

-- Keys and secrets.
alter table api_keys
    add column expires_at timestamptz,
    add column last_used_at timestamptz;

-- Figures.
alter table sweeps
    -- When it was last said that no worker comes; null where workers come, or nothing waits.
    add column unattended_at timestamptz,
    -- How many workers were suggested, since when, and the most that were needed from then on.
    add column suggested_workers int,
    add column suggested_peak int,
    add column suggested_at timestamptz;

-- When the file of an import was stored whole: the job waits from then on, and not since its upload began.
alter table jobs add column staged_at timestamptz;

-- How long chunks took of late. An opt-out that is applied when it is received stores its chunk after
-- the job's end, is no work of workers, and pays nothing for this index.
create index job_chunks_recent on job_chunks (finished_at)
    where state = 'done' and duration_ms is not null and runnable_at < finished_at;

-- Roles.

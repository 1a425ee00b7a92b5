-- What operators need: who did what, what a worker had in hand, and keys that end.

-- Lanes.

-- Who did what.
alter table jobs
    -- Empty for a job that an older version has stored.
    add column actor_kind text,
    add column actor_id bigint,
    add column via text,
    -- This prevents an actor that is told by halves, such as a key without its id.
    add constraint actor_is_whole check (
        (actor_kind is null and actor_id is null and via is null)
        or (actor_kind is not null and via is not null
            and (actor_id is not null) = (actor_kind in ('key', 'hook')))
    ) not valid;

-- As before (0004), and who asked is kept with what was asked for.
drop trigger request_is_kept on jobs;
create trigger request_is_kept before update on jobs for each row
    when ((old.account_id, old.action, old.fields, old.params, old.evidence, old.selection,
           old.requested_by, old.idempotency_key, old.plan_first, old.created_at,
           old.actor_kind, old.actor_id, old.via)
          is distinct from
          (new.account_id, new.action, new.fields, new.params, new.evidence, new.selection,
           new.requested_by, new.idempotency_key, new.plan_first, new.created_at,
           new.actor_kind, new.actor_id, new.via))
    execute function refuse_change_of_request();

-- What callers did, each row written by the transaction that did it. Two indexes and no foreign keys,
-- since each opt-out at once pays for them; `sluice verify` checks what foreign keys would.
create table activity (
    account_id bigint not null,
    id bigint generated always as identity,
    at timestamptz not null default clock_timestamp(),
    actor_kind text not null,
    actor_id bigint,
    via text not null,
    act text not null,
    job_id bigint,
    key_id bigint,
    hook_id bigint,
    -- That of the request by which it was done.
    correlation_id text,
    detail jsonb,
    primary key (account_id, id),
    constraint actor_is_whole check ((actor_id is not null) = (actor_kind in ('key', 'hook'))),
    -- This prevents an act upon nothing, or upon two things.
    constraint act_is_upon_one_thing check (num_nonnulls(job_id, key_id, hook_id) = 1)
);
create index activity_of_job on activity (job_id, id) where job_id is not null;

create function refuse_rewriting_activity() returns trigger language plpgsql as $$
begin
    raise exception 'activity is append-only: % refused', lower(tg_op)
        using errcode = 'integrity_constraint_violation';
end $$;
-- This prevents who did something from being rewritten afterwards.
create trigger activity_is_kept before update or delete or truncate on activity
    for each statement execute function refuse_rewriting_activity();

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

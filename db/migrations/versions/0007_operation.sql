-- What operators need: who did what, what a worker had in hand, and keys that end.

-- Lanes.
alter table job_lanes
    -- The chunk that the lane's worker has in hand, so that a lost worker's chunk can be named.
    add column chunk_no int;
alter table job_chunks
    -- Null until a worker was lost with the chunk; then how many attempts were counted before they
    -- were made and have not come to an end.
    add column careful_attempts smallint;

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
-- since each immediate opt-out pays for them; `sluice verify` checks what foreign keys would.
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
    -- This prevents an act upon nothing, or upon two things. What is done to the account has no other.
    constraint act_is_upon_one_thing check (
        num_nonnulls(job_id, key_id, hook_id) = (act not like 'account.%')::int
    )
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

-- The keys of events that were stored together as one job: a hook's message had too many of them. What a
-- key stands for is kept as `jobs` keeps it.
create table merged_events (
    account_id bigint not null references accounts (id),
    idempotency_key text not null,
    request_hash text not null,
    job_id bigint not null references jobs (id),
    primary key (account_id, idempotency_key)
);

-- Keys and secrets.
alter table api_keys
    add column expires_at timestamptz,
    add column last_used_at timestamptz;

-- Which of SIGNING_KEYS a secret was derived by, so that it does not change when the first key does;
-- null where that is not known. A hook's former secret counts beside the new one until `former_until`.
alter table hooks
    add column key_id text,
    add column former_salt bytea,
    add column former_key_id text,
    add column former_until timestamptz;

-- What an account's secret for notices is derived from, from the moment at which it is first shown.
alter table accounts
    add column notice_salt bytea,
    add column notice_key_id text;

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

-- Roles.
-- The role of a process may not write a job's history itself (`sluice grants`): the trigger does so as the
-- owner. Temporary tables come last, so that no session puts one in the place of `job_states`.
do $$
begin
    execute format(
        'alter function note_state() security definer set search_path = %I, pg_temp', current_schema()
    );
end $$;

-- What checks the rules looks into temporary tables last, so that none stands in for one of them.
do $$
declare function record;
begin
    for function in
        select oid::regprocedure as name from pg_proc
        where pronamespace = current_schema()::regnamespace
          and exists (select from unnest(proconfig) setting where setting like 'search_path=%')
    loop
        execute format(
            'alter function %s set search_path = %I, pg_temp', function.name, current_schema()
        );
    end loop;
end $$;

-- Lists as CSV.

-- A text that no spreadsheet runs as a formula: an apostrophe comes before what begins like one, blanks
-- and quotation marks aside, and before what would begin a cell of its own in a program that divides
-- cells at semicolons or tabs, where the quotation marks around this one count for nothing. What has
-- apostrophes before such a beginning gets one more, so that a reader of the file may take one away.
create function without_formula(value text) returns text
language sql immutable parallel safe
return regexp_replace(
    value,
    '^(?=''*[\t\r\n])|(?:^|(?<=[;\t\r\n]))(?=''*'
        -- Blanks, and what is not seen (Unicode: White_Space, Cc, Default_Ignorable_Code_Point).
        '["\u0001-\u0008\u000b\u000c\u000e-\u0020\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5'
        '\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0'
        '\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]*'
        '[-=+@\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20])',
    '''',
    'g');

-- A text as a cell of CSV, as it is where it is asked for raw. Most addresses are plain, and to find that
-- out takes a quarter of the time of the other questions.
create function csv_cell(value text, raw boolean) returns text
language sql immutable parallel safe
return case
    when value ~ '^[A-Za-z0-9][-A-Za-z0-9@._+]*$' then value
    when value ~ '[",;\t\r\n]' then
        '"' || replace(case when raw then value else without_formula(value) end, '"', '""') || '"'
    when raw then value
    else without_formula(value)
end;

-- Versions.
create table deployment (
    only_row boolean primary key default true check (only_row),
    -- Code of this revision and of every later one may use the database, whatever its own revision.
    suits_from_revision text not null,
    -- SHARED_ADDRESS_LIMIT as `sluice migrate` has put it in force; null until it has.
    shared_address_limit integer check (shared_address_limit >= 1)
);
insert into deployment (suits_from_revision) values ('0007');

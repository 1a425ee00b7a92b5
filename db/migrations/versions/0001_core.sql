-- The storage contract: accounts, contacts and their addresses, jobs, chunks, lanes and results.

create type email_status as enum (
    'single_opt_in', 'double_opt_in', 'confirmed', 'unengaged_marketable', 'non_marketable',
    'unengaged_non_marketable', 'lockdown', 'bounce', 'hard_bounce', 'invalid', 'deactivated',
    'system', 'admin', 'manual', 'list_unsubscribe', 'feedback', 'spam'
);
create type job_state as enum ('planning', 'running', 'paused', 'completed', 'cancelled', 'failed');
create type chunk_state as enum ('pending', 'done', 'split');
create type lane_state as enum ('rung', 'taken', 'idle');
create type result_outcome as enum ('applied', 'unchanged', 'rejected');
create type result_cause as enum ('direct', 'propagated');

create table accounts (
    id bigint generated always as identity primary key,
    name text not null unique,
    created_at timestamptz not null default now(),
    -- This prevents names that a shell, a log or a URL would have to quote.
    constraint account_name_is_plain check (name ~ '^[a-z0-9][a-z0-9_.-]{0,62}$')
);

create table jobs (
    id bigint generated always as identity primary key,
    account_id bigint not null references accounts,
    action text not null,
    state job_state not null default 'planning',
    fields smallint[] not null,
    params jsonb not null default '{}',
    evidence jsonb,
    selection jsonb not null,
    requested_by text not null,
    idempotency_key text,
    request_hash text not null,
    correlation_id text not null,
    selected bigint,
    applied bigint not null default 0,
    unchanged bigint not null default 0,
    rejected bigint not null default 0,
    empty bigint not null default 0,
    propagated bigint not null default 0,
    error text,
    created_at timestamptz not null default clock_timestamp(),
    planned_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    unique (account_id, id),
    -- This prevents a second job for a key that was used before.
    unique (account_id, idempotency_key),
    constraint action_is_a_word check (action ~ '^[a-z][a-z0-9_]{0,40}$'),
    constraint fields_are_email_fields
        check (fields <@ '{1,2,3}'::smallint[] and cardinality(fields) between 1 and 3),
    -- This prevents a job that says it is done while addresses are unaccounted for.
    constraint completed_adds_up check (
        state <> 'completed'
        or (selected is not null and selected = applied + unchanged + rejected + empty)
    ),
    constraint ended_has_an_end
        check ((state in ('completed', 'cancelled', 'failed')) = (finished_at is not null)),
    constraint running_is_planned check (state not in ('running', 'completed') or planned_at is not null)
);
create index jobs_newest on jobs (account_id, id desc);
create index jobs_unfinished on jobs (id) where state in ('planning', 'running');

create function refuse_change_of_request() returns trigger language plpgsql as $$
begin
    raise exception 'the request and evidence of job % are kept as they were submitted', old.id
        using errcode = 'integrity_constraint_violation';
end $$;
-- This prevents evidence, or what was asked for, from being rewritten afterwards.
create trigger request_is_kept before update on jobs for each row
    when ((old.account_id, old.action, old.fields, old.params, old.evidence, old.selection,
           old.requested_by, old.idempotency_key, old.created_at)
          is distinct from
          (new.account_id, new.action, new.fields, new.params, new.evidence, new.selection,
           new.requested_by, new.idempotency_key, new.created_at))
    execute function refuse_change_of_request();

-- The ids that a submitter listed, in blocks, so that a list of millions stays small.
create table job_contacts (
    job_id bigint not null references jobs,
    block_no int not null,
    contact_ids bigint[] not null,
    primary key (job_id, block_no)
);

create table job_chunks (
    job_id bigint not null references jobs,
    chunk_no int not null,
    contact_ids bigint[] not null,
    pairs int not null,
    state chunk_state not null default 'pending',
    attempts smallint not null default 0,
    runnable_at timestamptz not null default clock_timestamp(),
    error text,
    applied int not null default 0,
    unchanged int not null default 0,
    rejected int not null default 0,
    empty int not null default 0,
    propagated int not null default 0,
    reasons jsonb not null default '{}',
    worker text,
    duration_ms int,
    finished_at timestamptz,
    primary key (job_id, chunk_no),
    -- This prevents a chunk that forgets one of its (contact, field) pairs.
    constraint done_adds_up
        check (state <> 'done' or pairs = applied + unchanged + rejected + empty)
);
create index job_chunks_pending on job_chunks (job_id, chunk_no) where state = 'pending';

-- A job's bounded places in the queue. A message carries its lane and hop, and counts only while
-- the lane still stands at that hop: whatever is delivered twice is worked once.
create table job_lanes (
    job_id bigint not null references jobs,
    lane smallint not null,
    hop bigint not null default 0,
    state lane_state not null default 'rung',
    touched_at timestamptz not null default clock_timestamp(),
    -- How often it was rung in vain, and how many workers vanished while they had it.
    silent_rings smallint not null default 0,
    lost smallint not null default 0,
    worker text,
    primary key (job_id, lane)
);

create table contacts (
    account_id bigint not null references accounts,
    id bigint generated by default as identity,
    given_name text,
    family_name text,
    company text,
    import_job_id bigint,
    created_at timestamptz not null default now(),
    primary key (account_id, id)
);
create index contacts_of_import on contacts (import_job_id, id) where import_job_id is not null;

create table email_addresses (
    account_id bigint not null references accounts,
    id bigint generated by default as identity,
    address text not null,
    match_key text not null,
    status email_status not null,
    previous_status email_status,
    propagated_from bigint,
    status_job_id bigint,
    status_changed_at timestamptz not null default clock_timestamp(),
    -- How many contacts hold the address; of a role address, while an import runs, more than so many.
    holders int not null default 0,
    primary key (account_id, id),
    unique (account_id, match_key),
    constraint source_is_of_the_account
        foreign key (account_id, propagated_from) references email_addresses (account_id, id),
    constraint only_some_statuses_spread
        check (propagated_from is null or status in ('admin', 'manual')),
    constraint not_its_own_source check (propagated_from is distinct from id),
    -- This prevents an opt-out from being reopened, whatever the code decides (promise 1).
    constraint never_reopened check (
        not (status in ('single_opt_in', 'double_opt_in', 'confirmed', 'unengaged_marketable')
             and previous_status in ('admin', 'manual', 'list_unsubscribe', 'feedback', 'spam'))
    )
) with (fillfactor = 50);

-- Few addresses are shared, and each chunk asks which of its own are.
create index email_addresses_shared on email_addresses (account_id, id) where holders > 1;

create table contact_emails (
    account_id bigint not null,
    contact_id bigint not null,
    field smallint not null,
    address_id bigint not null,
    primary key (account_id, contact_id, field),
    constraint field_is_an_email_field check (field between 1 and 3),
    -- These prevent a contact of one account from holding an address of another.
    foreign key (account_id, contact_id) references contacts (account_id, id),
    foreign key (account_id, address_id) references email_addresses (account_id, id)
);
create index contact_emails_of_address on contact_emails (account_id, address_id);

create table tags (
    account_id bigint not null references accounts,
    id bigint generated by default as identity,
    name text not null,
    primary key (account_id, id),
    unique (account_id, name)
);

create table contact_tags (
    account_id bigint not null,
    tag_id bigint not null,
    contact_id bigint not null,
    primary key (account_id, tag_id, contact_id),
    foreign key (account_id, tag_id) references tags (account_id, id),
    foreign key (account_id, contact_id) references contacts (account_id, id)
);

-- The rows of an import between its upload and its chunks; a done chunk takes its rows away.
create table import_rows (
    job_id bigint not null,
    contact_id bigint not null default nextval(pg_get_serial_sequence('contacts', 'id')),
    line bigint not null,
    given_name text,
    family_name text,
    company text,
    tags text[] not null default '{}',
    addresses text[] not null,
    match_keys text[] not null,
    primary key (job_id, contact_id)
);

-- Addresses that one import brings on several contacts: whether one is a role address must not
-- depend on which of its rows are worked first.
create table import_repeats (
    job_id bigint not null,
    match_key text not null,
    contacts int not null,
    primary key (job_id, match_key)
);

create table import_rejections (
    job_id bigint not null references jobs,
    line bigint not null,
    reason text not null,
    detail text not null
);
create index import_rejections_by_line on import_rejections (job_id, line);

create table results (
    job_id bigint not null,
    chunk_no int not null,
    contact_id bigint not null,
    address_id bigint,
    source_address_id bigint,
    decided_at timestamptz not null default clock_timestamp(),
    outcome result_outcome not null,
    from_status email_status,
    to_status email_status,
    cause result_cause not null default 'direct',
    field smallint not null,
    reason text,
    constraint reason_is_a_word check (reason ~ '^[a-z][a-z0-9_]{0,62}$'),
    constraint applied_says_to_what check ((outcome = 'applied') = (to_status is not null)),
    constraint propagated_says_from_where
        check ((cause = 'propagated') = (source_address_id is not null)),
    -- This prevents a ledger that reopens an opt-out (promise 1).
    constraint never_reopened check (
        outcome <> 'applied'
        or from_status is null
        or from_status not in ('admin', 'manual', 'list_unsubscribe', 'feedback', 'spam')
        or to_status in ('admin', 'manual', 'list_unsubscribe', 'feedback', 'spam')
    )
);
-- One direct result for each (job, contact, field), and the order in which a job's results are read.
create unique index results_of_job on results (job_id, contact_id, field, cause);
create index results_rejected on results (job_id, contact_id, field) where outcome = 'rejected';
create index results_of_address on results (address_id);

create function refuse_rewriting_history() returns trigger language plpgsql as $$
begin
    raise exception 'results are append-only: % refused', lower(tg_op)
        using errcode = 'integrity_constraint_violation';
end $$;
create trigger results_are_kept before update or delete or truncate on results
    for each statement execute function refuse_rewriting_history();

-- When the fleet was last swept and measured, so that many processes do it as often as one.
create table sweeps (
    one boolean primary key default true check (one),
    swept_at timestamptz not null default '-infinity',
    measured_at timestamptz not null default '-infinity'
);
insert into sweeps default values;

create view rejections as
select r.job_id, r.contact_id, r.field, r.address_id, a.address, r.reason, r.from_status,
       r.decided_at, case when r.reason = 'internal_error' then c.error end as error
from results r
join jobs j on j.id = r.job_id
left join email_addresses a on a.account_id = j.account_id and a.id = r.address_id
left join job_chunks c on c.job_id = r.job_id and c.chunk_no = r.chunk_no
where r.outcome = 'rejected';

insert into accounts (name) values ('default');

-- Plans that wait for a person, lists of addresses, and what other services need at the door.

lock table jobs in access exclusive mode;

-- What is there meets every one of these, and to look again would lock out everybody meanwhile.

-- A job that was planned first waits in `planned` until somebody has confirmed what it would do. (Where
-- the type is older than this transaction, the new value cannot be used in it: hence the casts to text.)
alter type job_state add value 'planned' after 'planning';

alter table jobs
    add column plan_first boolean not null default false,
    -- What would happen, as counted when the selection was frozen and each time it was confirmed.
    add column forecast jsonb,
    -- What a person had seen and said yes to: counts, tolerance, who and when.
    add column confirmation jsonb,
    add column confirmed_at timestamptz,
    -- This prevents a planned job from waiting for a yes to something that nobody can see.
    add constraint planned_has_a_forecast check (
        state::text <> 'planned'
        or (plan_first and planned_at is not null and forecast is not null)
    ) not valid,
    -- This prevents a job that was to be confirmed from running before it was.
    add constraint plan_is_confirmed check (
        not plan_first or state::text not in ('running', 'completed') or confirmed_at is not null
    ) not valid,
    -- This prevents a worker that takes listed addresses for contacts from calling them done.
    add constraint listed_addresses_are_never_empty
        check (fields <> '{0}' or state <> 'completed' or empty = 0) not valid,
    -- Field 0 stands for the address itself, where a job lists addresses and not contacts.
    drop constraint fields_are_email_fields,
    add constraint fields_are_email_fields check (
        fields = '{0}'
        or (fields <@ '{1,2,3}'::smallint[] and cardinality(fields) between 1 and 3)
    ) not valid;

drop trigger request_is_kept on jobs;
create trigger request_is_kept before update on jobs for each row
    when ((old.account_id, old.action, old.fields, old.params, old.evidence, old.selection,
           old.requested_by, old.idempotency_key, old.plan_first, old.created_at)
          is distinct from
          (new.account_id, new.action, new.fields, new.params, new.evidence, new.selection,
           new.requested_by, new.idempotency_key, new.plan_first, new.created_at))
    execute function refuse_change_of_request();

-- The addresses that a submitter listed, until their chunk is done. A row's id is drawn from those of
-- addresses: an address that is new to the account gets it, and it is the row's `contact_id`, with
-- field 0, in chunks and results.
create table job_addresses (
    job_id bigint not null references jobs,
    row_id bigint not null default nextval(pg_get_serial_sequence('email_addresses', 'id')),
    line bigint not null,
    address text not null,
    match_key text not null,
    primary key (job_id, row_id)
);

-- Who may ask for what. The key itself is shown once and never stored.
create table api_keys (
    id bigint generated always as identity primary key,
    account_id bigint not null references accounts,
    name text not null,
    digest bytea not null,
    scopes text[] not null,
    created_at timestamptz not null default clock_timestamp(),
    revoked_at timestamptz,
    constraint digest_is_sha256 check (octet_length(digest) = 32),
    -- This prevents a scope that no code knows, and so a key that seems to allow something.
    constraint scopes_are_known check (
        cardinality(scopes) > 0
        and scopes <@ '{jobs:write,jobs:read,opt_outs:write,addresses:read}'::text[]
    )
);
create index api_keys_of_account on api_keys (account_id, id);

-- Where senders post what recipients did. A hook's secrets are derived from SIGNING_KEY and its salt.
create table hooks (
    id bigint generated always as identity primary key,
    account_id bigint not null references accounts,
    source text not null,
    salt bytea not null,
    created_at timestamptz not null default clock_timestamp(),
    revoked_at timestamptz,
    constraint salt_is_random check (octet_length(salt) = 16)
);
create index hooks_of_account on hooks (account_id, id);

-- The URL that is to be told how a job ended: due when it has, until it was told or given up.
create table completion_notices (
    job_id bigint primary key references jobs,
    url text not null,
    attempts smallint not null default 0,
    due_at timestamptz not null default 'infinity',
    delivered_at timestamptz,
    abandoned_at timestamptz,
    error text
);
create index completion_notices_due on completion_notices (due_at)
    where delivered_at is null and abandoned_at is null;

-- Besides noting the state: a notice is due from the moment at which its job ends, in the same
-- transaction, so that none is lost.
create or replace function note_state() returns trigger language plpgsql as $$
begin
    insert into job_states (job_id, state) values (new.id, new.state);
    if new.finished_at is not null then
        update completion_notices set due_at = clock_timestamp()
        where job_id = new.id and delivered_at is null;
    end if;
    return null;
end $$;

-- The row of a list is no contact's id.
create or replace view rejections as
select r.job_id, case when r.field > 0 then r.contact_id end as contact_id, r.field, r.address_id,
       a.address, r.reason, r.from_status,
       r.decided_at, case when r.reason = 'internal_error' then c.error end as error
from results r
join jobs j on j.id = r.job_id
left join email_addresses a on a.account_id = j.account_id and a.id = r.address_id
left join job_chunks c on c.job_id = r.job_id and c.chunk_no = r.chunk_no
where r.outcome = 'rejected';

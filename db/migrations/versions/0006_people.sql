-- An import recognises people, and reads the statuses that its file states.

lock table contacts, email_addresses in access exclusive mode;

alter table contacts
    -- The contact's id in the system that its file came from.
    add column external_id text,
    -- Whether another contact had the same addresses when this one came: they count as one person for
    -- SHARED_ADDRESS_LIMIT.
    add column is_repeat boolean not null default false;

-- This prevents two contacts of an account for one person of another system.
create unique index contacts_by_external_id on contacts (account_id, external_id)
    where external_id is not null;

-- Of the contacts that hold the address, how many are repeats.
alter table email_addresses add column repeats int not null default 0;

-- How many people hold an address, for SHARED_ADDRESS_LIMIT; two at least where it is on two contacts.
create function people(holders int, repeats int) returns int language sql immutable as
$$ select greatest(holders - repeats, least(holders, 2)) $$;

alter table import_rows
    add column external_id text,
    -- What the file states for each of the three fields; null where it states nothing at all.
    add column statuses email_status[];

alter table import_repeats
    -- How many of the contacts are different people: those with the same addresses are one.
    add column people int,
    -- The strongest of the statuses that the file states for the address.
    add column status email_status;

-- The rows of an import that were recognised: they became no contact of their own.
create table import_matches (
    job_id bigint not null references jobs,
    -- The `contact_id` of the row's results, and of no contact.
    row_id bigint not null,
    contact_id bigint not null,
    -- In which of its fields the contact holds an address since then.
    added_fields smallint[] not null default '{}',
    matched_at timestamptz not null default clock_timestamp(),
    primary key (job_id, row_id)
);
-- Partial, though it has every row: so it is never taken to look a row up, by which an import whose
-- statistics are not known yet would be read whole for each of its results.
create index import_matches_by_contact on import_matches (job_id, contact_id)
    where matched_at > '-infinity';

-- A row that was recognised is shown with the contact that it was recognised as.
create or replace view rejections as
select r.job_id, case when r.field > 0 then coalesce(m.contact_id, r.contact_id) end as contact_id,
       r.field, r.address_id, a.address, r.reason, r.from_status,
       r.decided_at, case when r.reason = 'internal_error' then c.error end as error
from results r
join jobs j on j.id = r.job_id
left join import_matches m on m.job_id = r.job_id and m.row_id = r.contact_id
left join email_addresses a on a.account_id = j.account_id and a.id = r.address_id
left join job_chunks c on c.job_id = r.job_id and c.chunk_no = r.chunk_no
where r.outcome = 'rejected';

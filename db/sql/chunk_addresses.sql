-- What a chunk reads and changes of contacts and their addresses.

-- name: read_links^
-- Which addresses the contacts hold, in all fields, as three parallel arrays.
select
    coalesce(array_agg(contact_id order by contact_id, field), '{}') as contact_ids,
    coalesce(array_agg(field order by contact_id, field), '{}') as fields,
    coalesce(array_agg(address_id order by contact_id, field), '{}') as address_ids
from contact_emails
where account_id = :account_id and contact_id = any(:contact_ids::bigint[]);

-- name: read_links_and_addresses^
-- Which addresses the contacts hold, in all fields, and the status of each, as two groups of parallel arrays. All
-- of one snapshot, without locks.
with links as materialized (
    select contact_id, field, address_id
    from contact_emails
    where account_id = :account_id and contact_id = any(:contact_ids::bigint[])
), held as (
    select
        coalesce(array_agg(contact_id order by contact_id, field), '{}') as contact_ids,
        coalesce(array_agg(field order by contact_id, field), '{}') as fields,
        coalesce(array_agg(address_id order by contact_id, field), '{}') as address_ids
    from links
), addresses as (
    select
        coalesce(array_agg(id), '{}') as ids,
        coalesce(array_agg(status), '{}') as statuses,
        coalesce(array_agg(propagated_from), '{}') as sources,
        coalesce(array_agg(status_job_id), '{}') as job_ids,
        coalesce(array_agg(person_count(contact_count, repeat_count)), '{}') as person_counts,
        coalesce(array_agg(xmin), '{}') as versions
    from email_addresses
    -- An array: for a join, a large chunk would make the planner read the whole account.
    where account_id = :account_id and id = any(array(select address_id from links))
)
select held.*, addresses.*, clock_timestamp() as decided_at from held cross join addresses;

-- name: find_existing_contacts^
-- Which of the ids are contacts of the account, and which of those hold an address.
select coalesce(array_agg(c.id), '{}') as ids,
       coalesce(array_agg(c.id) filter (where exists (
           select from contact_emails e where e.account_id = :account_id and e.contact_id = c.id
       )), '{}') as holding
from contacts c
where c.account_id = :account_id and c.id = any(:contact_ids::bigint[]);

-- name: read_siblings
-- The siblings of addresses that at least :min_contacts contacts hold and that are no role addresses.
select y.id as source_id, o.contact_id, o.field, o.address_id
from email_addresses y
join contact_emails h on h.account_id = y.account_id and h.address_id = y.id
join contact_emails o
    on o.account_id = h.account_id and o.contact_id = h.contact_id and o.address_id <> y.id
where y.account_id = :account_id
  and y.id = any(:address_ids::bigint[])
  and y.contact_count >= :min_contacts and person_count(y.contact_count, y.repeat_count) <= :role_address_limit;

-- name: read_addresses^
-- The addresses as they are, without locks. An update checks that each still has the version read here.
select
    coalesce(array_agg(id), '{}') as ids,
    coalesce(array_agg(status), '{}') as statuses,
    coalesce(array_agg(propagated_from), '{}') as sources,
    coalesce(array_agg(status_job_id), '{}') as job_ids,
    coalesce(array_agg(person_count(contact_count, repeat_count)), '{}') as person_counts,
    coalesce(array_agg(xmin), '{}') as versions,
    clock_timestamp() as decided_at
from email_addresses
where account_id = :account_id and id = any(:address_ids::bigint[]);

-- name: lock_addresses^
-- Lock the addresses in the order of ids, which all transactions use, and return what they are then. `decided_at`
-- is taken after the last lock, so that the results of one address never overlap in time.
-- With a limit, role addresses are left out: many chunks have them, nearly always without a change, and parallel
-- chunks must not wait for each other.
with locked as materialized (
    select id, status, propagated_from, status_job_id, contact_count, repeat_count, xmin
    from email_addresses
    where account_id = :account_id
      and id = any(:address_ids::bigint[])
      and (:role_address_limit::int is null
           or person_count(contact_count, repeat_count) <= :role_address_limit)
    order by id
    for no key update
)
select
    coalesce(array_agg(id), '{}') as ids,
    coalesce(array_agg(status), '{}') as statuses,
    coalesce(array_agg(propagated_from), '{}') as sources,
    coalesce(array_agg(status_job_id), '{}') as job_ids,
    coalesce(array_agg(person_count(contact_count, repeat_count)), '{}') as person_counts,
    coalesce(array_agg(xmin), '{}') as versions,
    clock_timestamp() as decided_at
from locked;

-- name: find_addresses_with_opted_out_sibling$
-- Which of the addresses have a sibling that is opted out in its own right and is no role address. Contacts that the
-- job itself created do not count, nor do addresses that it added to contacts or opted out: it decides first and
-- propagates then, in whichever chunk. The first such sibling is enough: an address may have thousands of
-- siblings, and many chunks ask for it.
-- Each address is to be given once.
select coalesce(array_agg(x.id), '{}')
from unnest(:address_ids::bigint[]) as x (id)
cross join lateral (
    select from contact_emails h
    join contact_emails s
        on s.account_id = h.account_id and s.contact_id = h.contact_id and s.address_id <> x.id
    join email_addresses y on y.account_id = s.account_id and y.id = s.address_id
    where h.account_id = :account_id and h.address_id = x.id
      and y.status = any(:own_right_statuses::email_status[])
      and y.propagated_from is null
      and y.status_job_id is distinct from :job_id
      and person_count(y.contact_count, y.repeat_count) <= :role_address_limit
      -- A sub-query, evaluated last and so for few rows; a join might come first.
      and (select c.import_job_id from contacts c
           where c.account_id = :account_id and c.id = s.contact_id) is distinct from :job_id
      and (select bool_or(m.added_fields && array[h.field, s.field]) from recognized_rows m
           where m.account_id = :account_id and m.job_id = :job_id and m.contact_id = s.contact_id
             and m.recognized_at > '-infinity') is not true
    limit 1
) found;

-- name: update_alike!
-- Give all addresses one status, in their own right, if they still have a version that was read. `xmin` differs
-- after every change; a lock does not change it.
update email_addresses
set status = :to_status,
    previous_status = status,
    propagated_from = null,
    status_job_id = :job_id,
    status_changed_at = :decided_at
where account_id = :account_id
  and id = any(:address_ids::bigint[])
  and xmin = any(:versions::xid[]);

-- name: update_each!
-- Give each address a status, and the address from which it was propagated, if the address still has the version
-- that was read. The source may be an address that the same chunk changes. There are few kinds of changes, so each
-- address only names its kind.
update email_addresses a
set status = (:to_statuses::email_status[])[c.kind],
    previous_status = (:from_statuses::email_status[])[c.kind],
    propagated_from = c.source_id,
    status_job_id = :job_id,
    status_changed_at = :decided_at
from unnest(:address_ids::bigint[], :kinds::smallint[], :source_ids::bigint[], :versions::xid[])
    as c (id, kind, source_id, version)
where a.account_id = :account_id
  and a.id = any(:address_ids::bigint[])
  and a.id = c.id
  and a.xmin = c.version;

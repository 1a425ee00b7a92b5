-- How the uploaded rows of an import chunk become contacts, in the order in which it happens.
-- Locks are taken in three orders, one after the other, so that chunks cannot deadlock: repeats
-- by key, new addresses by key, known addresses by id.

-- name: make_contacts!
-- The contacts of the chunk.
insert into contacts (account_id, id, given_name, family_name, company, import_job_id)
select :account_id, contact_id, given_name, family_name, company, job_id
from import_rows
where job_id = :job_id and contact_id = any(:contact_ids::bigint[]);

-- name: count_repeats
-- The addresses that the whole import brings on several contacts and that no chunk has counted.
with mine as (
    select r.match_key
    from import_repeats r
    where r.job_id = :job_id and not r.counted and r.match_key in (
        select unnest(i.match_keys) from import_rows i
        where i.job_id = :job_id and i.contact_id = any(:contact_ids::bigint[]))
    order by r.match_key
    for update
)
update import_repeats r set counted = true
from mine
where r.job_id = :job_id and r.match_key = mine.match_key and not r.counted
returning r.match_key, r.contacts;

-- name: make_addresses$
-- The addresses that are new to the account, each with its first status.
with made as (
    insert into email_addresses
        (account_id, address, match_key, status, status_job_id, holders)
    select distinct on (a.match_key)
        :account_id, a.address, a.match_key, :status, :job_id, 0
    from import_rows i
    cross join lateral unnest(i.addresses, i.match_keys) as a (address, match_key)
    where i.job_id = :job_id and i.contact_id = any(:contact_ids::bigint[])
      and a.match_key is not null
    order by a.match_key, i.contact_id
    on conflict (account_id, match_key) do nothing
    returning id
)
select coalesce(array_agg(id), '{}') from made;

-- name: count_holders!
-- Lock the addresses of the chunk in id order and count the contacts that come to hold them: one
-- each, but for a repeated address, which the first chunk counts for the whole import.
with held as (
    select a.match_key, count(*) as contacts
    from import_rows i
    cross join lateral unnest(i.match_keys) as a (match_key)
    where i.job_id = :job_id and i.contact_id = any(:contact_ids::bigint[])
      and a.match_key is not null
    group by a.match_key
), locked as materialized (
    select e.id, held.match_key, held.contacts
    from held
    join email_addresses e on e.account_id = :account_id and e.match_key = held.match_key
    order by e.id
    for no key update of e
)
update email_addresses e
set holders = e.holders + coalesce(counted.contacts, locked.contacts)
from locked
left join unnest(:counted_keys::text[], :counted_contacts::int[]) as counted (match_key, contacts)
    on counted.match_key = locked.match_key
where e.account_id = :account_id and e.id = locked.id
  and (counted.match_key is not null or not exists (
      select from import_repeats r
      where r.job_id = :job_id and r.match_key = locked.match_key));

-- name: make_links!
-- Which contact of the chunk holds which address in which field.
insert into contact_emails (account_id, contact_id, field, address_id)
select :account_id, i.contact_id, a.field, e.id
from import_rows i
cross join lateral unnest(i.match_keys) with ordinality as a (match_key, field)
join email_addresses e on e.account_id = :account_id and e.match_key = a.match_key
where i.job_id = :job_id and i.contact_id = any(:contact_ids::bigint[]);

-- name: make_contact_tags!
-- The tags of the chunk's contacts: their own and the import's; the plan has made the tags.
insert into contact_tags (account_id, tag_id, contact_id)
select distinct :account_id::bigint, t.id, i.contact_id
from import_rows i
cross join lateral unnest(array_append(i.tags, :tag::text)) as name
join tags t on t.account_id = :account_id and t.name = name
where i.job_id = :job_id and i.contact_id = any(:contact_ids::bigint[]);

-- name: drop_rows!
-- The rows have become contacts, or rejections.
delete from import_rows
where job_id = :job_id and contact_id = any(:contact_ids::bigint[]);

-- name: make_tags!
-- The tags that an import brings, made once for the whole of it.
insert into tags (account_id, name)
select :account_id, name
from (
    select distinct unnest(tags) as name from import_rows where job_id = :job_id
    union
    select :tag::text
) named
where name is not null
order by name
on conflict (account_id, name) do nothing;

-- name: refuse_row!
-- Keep a row that could not become a contact, with the reason.
insert into import_rejections (job_id, line, reason, detail)
select job_id, line, 'internal_error', :detail
from import_rows
where job_id = :job_id and contact_id = :contact_id;

-- name: fields_of_row$
-- In which fields an uploaded row has an address.
select coalesce(array_agg(a.field::smallint order by a.field), '{}')
from import_rows i
cross join lateral unnest(i.match_keys) with ordinality as a (match_key, field)
where i.job_id = :job_id and i.contact_id = :contact_id and a.match_key is not null;

-- name: refused_rows$
-- How many rows of an import were refused.
select count(*) from import_rejections where job_id = :job_id;

-- How the uploaded rows of an import chunk become contacts, in the order in which it happens.
-- Known addresses are locked by id before new ones are made by key, so that chunks cannot deadlock.

-- name: make_contacts!
-- The contacts of the chunk.
insert into contacts (account_id, id, given_name, family_name, company, import_job_id)
select :account_id, contact_id, given_name, family_name, company, job_id
from import_rows
where job_id = :job_id and contact_id = any(:contact_ids::bigint[]);

-- name: make_links$
-- The addresses of the chunk and who holds them: known ones are locked in id order, new ones are
-- made in key order with their first status, and each counts the contacts that come to hold it.
-- Role addresses are not locked, and where the import repeats them not counted, so that chunks do
-- not wait for each other: their opt-out spreads to nobody who comes to hold them, and the end of
-- the import counts them.
-- Gives the new addresses. A unique violation when another transaction made one of them, or made
-- one a role address, at the same moment; this one is then to begin again. (`on conflict do nothing`
-- would cost a second look at the index, and a second record in the log, for each new address.)
with held as materialized (
    select i.contact_id, a.field, a.address, a.match_key
    from import_rows i
    cross join lateral unnest(i.addresses, i.match_keys) with ordinality
        as a (address, match_key, field)
    where i.job_id = :job_id and i.contact_id = any(:contact_ids::bigint[])
      and a.match_key is not null
), keys as materialized (
    select match_key, (array_agg(address order by contact_id))[1] as address, count(*) as contacts
    from held
    group by match_key
), found as materialized (
    select e.id, e.match_key, e.holders > :shared_address_limit as role
    from email_addresses e
    where e.account_id = :account_id
      and e.match_key = any((select array_agg(match_key) from keys)::text[])
), locked as materialized (
    select e.id
    from email_addresses e
    where e.account_id = :account_id
      and e.id = any((select array_agg(id) from found where not role)::bigint[])
      and e.holders <= :shared_address_limit
    order by e.id
    for no key update
), known as materialized (
    select f.id, f.match_key, f.role
    from found f
    where f.role or f.id in (select id from locked)
), made as (
    insert into email_addresses
        (account_id, address, match_key, status, status_job_id, holders)
    select :account_id, k.address, k.match_key, :status::email_status, :job_id, k.contacts
    from keys k
    where not exists (select from known n where n.match_key = k.match_key)
    order by k.match_key
    returning id, match_key
), counted as (
    update email_addresses e
    set holders = e.holders + k.contacts
    from known n
    join keys k on k.match_key = n.match_key
    where e.account_id = :account_id and e.id = n.id
      -- A value, and not `not exists`: for that, all repeats of the import may be read into memory.
      and (not n.role or (
          select r.contacts from import_repeats r
          where r.job_id = :job_id and r.match_key = n.match_key) is null)
), linked as (
    insert into contact_emails (account_id, contact_id, field, address_id)
    select :account_id, h.contact_id, h.field, a.id
    from held h
    join (select id, match_key from made union all select id, match_key from known) a
        on a.match_key = h.match_key
    order by h.contact_id, h.field
)
select coalesce(array_agg(id), '{}') from made;

-- name: holders_by_the_end
-- How many contacts will hold each address when the import is done: those outside it, and all
-- that it brings. Of the addresses that it brings once, nothing.
-- Each address is looked up by itself, and its contacts by their ids: what an import that runs has
-- brought so far the planner's statistics do not know, and it would take all of it for one row. (The
-- limit changes nothing, since there is one row at most, and `is not distinct from` keeps the index
-- of an import's contacts out.)
select e.id, (e.holders - mine.contacts + r.contacts)::int as holders
from email_addresses e
cross join lateral (
    select contacts from import_repeats where job_id = :job_id and match_key = e.match_key limit 1
) r
cross join lateral (
    select count(*) as contacts
    from contact_emails l
    join contacts c on c.account_id = l.account_id and c.id = l.contact_id
    where l.account_id = e.account_id and l.address_id = e.id
      and c.import_job_id is not distinct from :job_id
) mine
where e.account_id = :account_id and e.id = any(:address_ids::bigint[]);

-- name: lock_role_addresses!
-- At the end of an import: hold the role addresses it brought, so that a chunk of another import
-- which links one and counts that has committed before they are counted, or does so afterwards.
select e.id
from import_repeats r
join email_addresses e on e.account_id = :account_id and e.match_key = r.match_key
where r.job_id = :job_id and e.holders > :shared_address_limit
order by e.id
for no key update of e;

-- name: count_role_holders!
-- The contacts that hold the role addresses, which are held by now. A statement of its own, so that
-- it sees what was committed while those locks were waited for.
update email_addresses e
set holders = held.contacts
from import_repeats r
cross join lateral (
    select a.id, a.account_id, count(*) as contacts
    from email_addresses a
    join contact_emails l on l.account_id = a.account_id and l.address_id = a.id
    where a.account_id = :account_id and a.match_key = r.match_key
      and a.holders > :shared_address_limit
    group by a.account_id, a.id
) held
where r.job_id = :job_id and e.account_id = held.account_id and e.id = held.id
  and e.holders < held.contacts;

-- name: links_beside_spared
-- At the end of an import: the contacts that it brought beside an address which is opted out in its
-- own right and was taken for a role address because of rows that did not become contacts. These
-- addresses are few, and found first; `is not distinct from` keeps from going over the import instead.
with spared as materialized (
    select e.id
    from import_repeats r
    join email_addresses e on e.account_id = :account_id and e.match_key = r.match_key
    where r.job_id = :job_id
      and e.status = any(:own_right_statuses::email_status[])
      and e.propagated_from is null
      and e.holders <= :shared_address_limit
      and e.holders + r.contacts > :shared_address_limit
)
select own.contact_id, own.field, own.address_id, s.id as source_id
from spared s
join contact_emails l on l.account_id = :account_id and l.address_id = s.id
join contacts c on c.account_id = l.account_id and c.id = l.contact_id
join contact_emails own on own.account_id = c.account_id and own.contact_id = c.id
where c.import_job_id is not distinct from :job_id
order by own.contact_id, own.field;

-- name: make_contact_tags!
-- The tags of the chunk's contacts: their own and the import's; the plan has made the tags.
insert into contact_tags (account_id, tag_id, contact_id)
select distinct :account_id::bigint, t.id, i.contact_id
from import_rows i
cross join lateral unnest(array_append(i.tags, :tag::text)) as tagged (name)
join tags t on t.account_id = :account_id and t.name = tagged.name
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
-- How many rows of an import were refused whole.
select count(*) from import_rejections
where job_id = :job_id and reason <> all(:cell_reasons::text[]);

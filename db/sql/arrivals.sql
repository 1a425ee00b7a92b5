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

-- name: make_links^
-- The addresses of the chunk and who holds them: known ones are locked in id order, but for role
-- addresses, whose opt-out spreads to nobody who comes to hold them; new ones are made in key
-- order with their first status, and each counts the contacts that come to hold it; a repeated
-- address is counted by the first chunk for the whole import. `unlinked` is not zero when another
-- transaction made an address at the same moment; this one is then to begin again.
with held as materialized (
    select i.contact_id, a.field, a.address, a.match_key
    from import_rows i
    cross join lateral unnest(i.addresses, i.match_keys) with ordinality
        as a (address, match_key, field)
    where i.job_id = :job_id and i.contact_id = any(:contact_ids::bigint[])
      and a.match_key is not null
), keys as materialized (
    select distinct on (h.match_key) h.match_key, h.address,
           coalesce(counted.contacts, case when r.match_key is null then 1 else 0 end) as contacts
    from held h
    left join import_repeats r on r.job_id = :job_id and r.match_key = h.match_key
    left join unnest(:counted_keys::text[], :counted_contacts::int[])
        as counted (match_key, contacts) on counted.match_key = h.match_key
    order by h.match_key, h.contact_id
), locked as materialized (
    select e.id, e.match_key
    from email_addresses e
    where e.account_id = :account_id
      and e.match_key = any((select array_agg(match_key) from keys)::text[])
      and e.holders <= :shared_address_limit
    order by e.id
    for no key update
), known as materialized (
    select id, match_key from locked
    union all
    select e.id, e.match_key
    from email_addresses e
    where e.account_id = :account_id
      and e.match_key = any((select array_agg(match_key) from keys)::text[])
      and e.holders > :shared_address_limit
), made as (
    insert into email_addresses
        (account_id, address, match_key, status, status_job_id, holders)
    select :account_id, k.address, k.match_key, :status::email_status, :job_id, k.contacts
    from keys k
    where not exists (select from known n where n.match_key = k.match_key)
    order by k.match_key
    on conflict (account_id, match_key) do nothing
    returning id, match_key
), counted as (
    update email_addresses e
    set holders = e.holders + k.contacts
    from known n
    join keys k on k.match_key = n.match_key
    where e.account_id = :account_id and e.id = n.id and k.contacts > 0
), linked as (
    insert into contact_emails (account_id, contact_id, field, address_id)
    select :account_id, h.contact_id, h.field, a.id
    from held h
    join (select id, match_key from made union all select id, match_key from known) a
        on a.match_key = h.match_key
    order by h.contact_id, h.field
    returning 1
)
select
    (select coalesce(array_agg(id), '{}') from made) as new,
    (select count(*) from held) - (select count(*) from linked) as unlinked;

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

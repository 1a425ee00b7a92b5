-- How the uploaded rows of an import chunk become contacts, in the order in which it happens.
-- Known addresses are locked by id before new ones are made by key, so that chunks cannot deadlock.

-- name: lock_known_addresses
-- Which addresses of the chunk the account knows, and which stand in more than one of its rows; a line
-- without an address tells that rows have ids of another system. Known ones are locked in id order. Role
-- addresses are not, so that chunks do not wait for each other: their opt-out spreads to nobody who comes to hold them, and the end of the import counts them. (One that
-- became a role address at the same moment is left out, and a unique violation follows.)
with keys as materialized (
    select a.match_key, count(*) as rows
    from import_rows i
    cross join lateral unnest(i.match_keys) as a (match_key)
    where i.account_id = :account_id and i.job_id = :job_id
      and i.item_id = any(:item_ids::bigint[])
      and a.match_key is not null
    group by a.match_key
), found as materialized (
    select e.id, e.match_key, e.contact_count,
           person_count(e.contact_count, e.repeat_count) > :shared_address_limit as role
    from email_addresses e
    where e.account_id = :account_id
      and e.match_key = any((select array_agg(match_key) from keys)::text[])
), locked as materialized (
    select e.id
    from email_addresses e
    where e.account_id = :account_id
      and e.id = any((select array_agg(id) from found where not role)::bigint[])
      and person_count(e.contact_count, e.repeat_count) <= :shared_address_limit
    order by e.id
    for no key update
)
select k.match_key, f.id, coalesce(f.role, false) as role, coalesce(f.contact_count, 0) as contact_count
from keys k
left join found f on f.match_key = k.match_key and (f.role or f.id in (select id from locked))
where f.id is not null or k.rows > 1
union all
select null, null, false, 0
where exists (
    select from import_rows i
    where i.account_id = :account_id and i.job_id = :job_id
      and i.item_id = any(:item_ids::bigint[])
      and i.external_id is not null);

-- name: read_rows_to_recognize
-- The rows of the chunk that may be about people whom the account, or the chunk, has: those with one of
-- the addresses, or with an id of another system.
select i.item_id, i.given_name, i.family_name, i.company, i.external_id, i.match_keys
from import_rows i
where i.account_id = :account_id and i.job_id = :job_id
      and i.item_id = any(:item_ids::bigint[])
  and (i.external_id is not null or i.item_id in (
      select r.item_id
      from import_rows r
      cross join lateral unnest(r.match_keys) as a (match_key)
      where r.account_id = :account_id and r.job_id = :job_id
        and r.item_id = any(:item_ids::bigint[])
        and a.match_key in (select unnest(:match_keys::text[]))))
order by i.item_id;

-- name: find_candidates
-- The contacts that hold one of the addresses or have one of the ids of another system, and those that
-- hold an address of the latter; each with its addresses. A statement of its own, so that it sees what
-- was committed while the locks were waited for.
with by_id as materialized (
    select c.id from contacts c
    where c.account_id = :account_id and c.external_id = any(:external_ids::text[])
), around as materialized (
    select id as contact_id from by_id
    union
    select h.contact_id
    from contact_emails h
    where h.account_id = :account_id and h.address_id = any(array(
        select unnest(:address_ids::bigint[])
        union all
        select l.address_id from contact_emails l
        where l.account_id = :account_id and l.contact_id = any(array(select id from by_id))))
)
select c.id, c.given_name, c.family_name, c.company, c.external_id, c.is_repeat,
       held.fields, held.match_keys
from contacts c
cross join lateral (
    select coalesce(array_agg(l.field order by l.field), '{}') as fields,
           coalesce(array_agg(e.match_key order by l.field), '{}') as match_keys
    from contact_emails l
    join email_addresses e on e.account_id = l.account_id and e.id = l.address_id
    where l.account_id = :account_id and l.contact_id = c.id
) held
where c.account_id = :account_id and c.id = any(array(select contact_id from around))
order by c.id;

-- name: insert_contacts!
-- The contacts of the chunk, of all rows that were not recognized.
insert into contacts
    (account_id, id, given_name, family_name, company, import_job_id, external_id, is_repeat)
select account_id, item_id, given_name, family_name, company, job_id,
       case when item_id <> all(:without_external_id::bigint[]) then external_id end,
       item_id = any(:repeats::bigint[])
from import_rows
where account_id = :account_id and job_id = :job_id and item_id = any(:item_ids::bigint[]);

-- name: insert_links^
-- The addresses of the chunk and who holds them: those of the rows that become contacts, and those that
-- are added to contacts which were recognized. New addresses are made in key order, with the first
-- status of the job or what that is for the status which the file states, and each counts the contacts
-- that come to hold it.
-- Role addresses that the import repeats are not counted: the end of the import does so.
-- Gives the new addresses, how many people hold each and their version, and all links that were made.
-- What a transaction has made it need not read again, nor lock. A unique violation when another transaction made one of them, or made
-- one a role address, at the same moment; this one is then to begin again. (`on conflict do nothing`
-- would cost a second look at the index, and a second record in the log, for each new address.)
with held as materialized (
    select i.item_id as contact_id, a.field, a.address, a.match_key, a.status,
           i.item_id = any(:repeats::bigint[]) as is_repeat
    from import_rows i
    cross join lateral unnest(i.addresses, i.match_keys, i.statuses) with ordinality
        as a (address, match_key, status, field)
    where i.account_id = :account_id and i.job_id = :job_id
      and i.item_id = any(:item_ids::bigint[])
      and a.match_key is not null
    union all
    select added.contact_id, added.field, a.address, added.match_key, a.status,
           added.contact_id = any(:repeats::bigint[])
    from unnest(:added_contact_ids::bigint[], :added_fields::smallint[], :added_keys::text[],
                :added_item_ids::bigint[]) as added (contact_id, field, match_key, item_id)
    join import_rows i
        on i.account_id = :account_id and i.job_id = :job_id and i.item_id = added.item_id
        -- Named twice: what an import has brought since it began the planner takes for one row.
        and i.item_id = any(:added_item_ids::bigint[])
    join lateral unnest(i.addresses, i.match_keys, i.statuses) as a (address, match_key, status)
        on a.match_key = added.match_key
), keys as materialized (
    select match_key, (array_agg(address order by contact_id))[1] as address, count(*) as contacts,
           count(*) filter (where is_repeat) as repeats, max(status) as status
    from held
    group by match_key
), known as materialized (
    select id, match_key, role
    from unnest(:known_ids::bigint[], :known_keys::text[], :known_roles::boolean[])
        as k (id, match_key, role)
), made as (
    insert into email_addresses
        (account_id, address, match_key, status, status_job_id, contact_count, repeat_count)
    select :account_id, k.address, k.match_key,
           coalesce((:initial_statuses_by_stated::email_status[])[array_position(:stated::email_status[], coalesce(
               (select r.status from import_repeats r
                where cardinality(:stated::email_status[]) > 0
                  and r.account_id = :account_id and r.job_id = :job_id and r.match_key = k.match_key),
               k.status))], :status::email_status),
           :job_id, k.contacts, k.repeats
    from keys k
    where not exists (select from known n where n.match_key = k.match_key)
    order by k.match_key
    returning id, match_key, person_count(contact_count, repeat_count) as person_count, xmin as version
), counted as (
    update email_addresses e
    set contact_count = e.contact_count + k.contacts, repeat_count = e.repeat_count + k.repeats
    from known n
    join keys k on k.match_key = n.match_key
    where e.account_id = :account_id and e.id = n.id
      -- A value, and not `not exists`: for that, all repeats of the import may be read into memory.
      and (not n.role or (
          select r.contact_count from import_repeats r
          where r.account_id = :account_id and r.job_id = :job_id and r.match_key = n.match_key) is null)
), linked as (
    insert into contact_emails (account_id, contact_id, field, address_id)
    select :account_id, h.contact_id, h.field, a.id
    from held h
    join (select id, match_key from made union all select id, match_key from known) a
        on a.match_key = h.match_key
    order by h.contact_id, h.field
    returning contact_id, field, address_id
)
select new.*, links.*
from (
    select coalesce(array_agg(id), '{}') as ids, coalesce(array_agg(person_count), '{}') as person_counts,
           min(version::text)::bigint as version
    from made
) new
cross join (
    select coalesce(array_agg(contact_id), '{}') as contact_ids,
           coalesce(array_agg(field), '{}') as fields,
           coalesce(array_agg(address_id), '{}') as address_ids
    from linked
) links;

-- name: add_contact_counts!
-- Contacts that were repeats have other addresses now than who they repeated: they count, by those too
-- that they had before. By those that were added they count already.
with counting as (
    update contacts set is_repeat = false
    where account_id = :account_id and id = any(:contact_ids::bigint[]) and is_repeat
    returning id
), links as (
    select l.address_id, count(*) as contacts
    from contact_emails l
    where l.account_id = :account_id and l.contact_id in (select id from counting)
      and (l.contact_id, l.field) not in (
          select added.contact_id, added.field
          from unnest(:added_contact_ids::bigint[], :added_fields::smallint[])
              as added (contact_id, field))
    group by l.address_id
)
update email_addresses e
set repeat_count = e.repeat_count - l.contacts
from links l
where e.account_id = :account_id and e.id = l.address_id;

-- name: update_contacts!
-- What the rows say more of contacts that were recognized.
update contacts c
set given_name = u.given_name, family_name = u.family_name, company = u.company,
    external_id = u.external_id
from unnest(:contact_ids::bigint[], :given_names::text[], :family_names::text[],
            :companies::text[], :external_ids::text[])
    as u (id, given_name, family_name, company, external_id)
where c.account_id = :account_id and c.id = any(:contact_ids::bigint[]) and c.id = u.id;

-- name: insert_recognized_rows!
-- As which contacts rows were recognized.
insert into recognized_rows (account_id, job_id, item_id, contact_id, added_fields)
select :account_id, :job_id, r.item_id, r.contact_id, coalesce(a.fields, '{}')
from unnest(:recognized_item_ids::bigint[], :recognized_contact_ids::bigint[]) as r (item_id, contact_id)
left join (
    select item_id, array_agg(field) as fields
    from unnest(:added_item_ids::bigint[], :added_fields::smallint[]) as added (item_id, field)
    group by item_id
) a on a.item_id = r.item_id;

-- name: read_stated_statuses
-- What the file states for the addresses of the chunk, the strongest of all that it states for each.
with keys as materialized (
    select a.match_key, max(a.status) as status
    from import_rows i
    cross join lateral unnest(i.match_keys, i.statuses) as a (match_key, status)
    where i.account_id = :account_id and i.job_id = :job_id
      and i.item_id = any(:item_ids::bigint[])
      and a.match_key is not null
    group by a.match_key
), stated as materialized (
    select k.match_key, coalesce(
        (select r.status from import_repeats r
         where r.account_id = :account_id and r.job_id = :job_id and r.match_key = k.match_key),
        k.status) as status
    from keys k
)
select e.id, s.status
from email_addresses e
join stated s on s.match_key = e.match_key
where e.account_id = :account_id
  and e.match_key = any((select array_agg(match_key) from stated where status is not null)::text[]);

-- name: person_counts_by_the_end
-- How many people will hold each address when the import is done: those outside it, and all
-- that it brings. Of the addresses that it brings once, nothing. Rows that are about contacts outside
-- it count twice, and the end of the import puts that right.
-- Each address is looked up by itself, and its contacts by their ids: what an import that runs has
-- brought so far the planner's statistics do not know, and it would take all of it for one row. (The
-- limit changes nothing, since there is one row at most, and `is not distinct from` keeps the index
-- of an import's contacts out.)
select e.id, (person_count(e.contact_count, e.repeat_count) - mine.persons + r.person_count)::int
           as person_count
from email_addresses e
cross join lateral (
    select person_count from import_repeats
    where account_id = :account_id and job_id = :job_id and match_key = e.match_key
    limit 1
) r
cross join lateral (
    select count(*) as persons
    from contact_emails l
    join contacts c on c.account_id = l.account_id and c.id = l.contact_id
    where l.account_id = :account_id and l.address_id = e.id
      and c.import_job_id is not distinct from :job_id and not c.is_repeat
) mine
where e.account_id = :account_id and e.id = any(:address_ids::bigint[]);

-- name: lock_repeated_role_addresses!
-- At the end of an import: hold the role addresses it brought, so that a chunk of another import
-- which links one and counts that has committed before they are counted, or does so afterwards.
select e.id
from import_repeats r
join email_addresses e on e.account_id = :account_id and e.match_key = r.match_key
where r.account_id = :account_id and r.job_id = :job_id
  and person_count(e.contact_count, e.repeat_count) > :shared_address_limit
order by e.id
for no key update of e;

-- name: count_contacts_of_role_addresses!
-- The contacts that hold the role addresses, which are held by now. A statement of its own, so that
-- it sees what was committed while those locks were waited for.
update email_addresses e
set contact_count = held.contacts, repeat_count = held.repeats
from import_repeats r
cross join lateral (
    select a.id, count(*) as contacts, count(*) filter (where c.is_repeat) as repeats
    from email_addresses a
    join contact_emails l on l.account_id = a.account_id and l.address_id = a.id
    join contacts c on c.account_id = l.account_id and c.id = l.contact_id
    where a.account_id = :account_id and a.match_key = r.match_key
      and person_count(a.contact_count, a.repeat_count) > :shared_address_limit
    group by a.id
) held
where r.account_id = :account_id and r.job_id = :job_id
  and e.account_id = :account_id and e.id = held.id
  and e.contact_count < held.contacts;

-- name: find_missed_propagation
-- At the end of an import: the contacts that it brought, or added to, beside an address which is opted
-- out in its own right and may have been taken for a role address because of rows that did not become
-- contacts of their own. These addresses are few, and found first; `is not distinct from` keeps from
-- going over the import instead.
with spared as materialized (
    select e.id
    from import_repeats r
    join email_addresses e on e.account_id = :account_id and e.match_key = r.match_key
    where r.account_id = :account_id and r.job_id = :job_id
      and e.status = any(:own_right_statuses::email_status[])
      and e.propagated_from is null
      and person_count(e.contact_count, e.repeat_count) <= :shared_address_limit
      and person_count(e.contact_count, e.repeat_count) + r.person_count > :shared_address_limit
)
select own.contact_id, own.field, own.address_id, s.id as source_id
from spared s
join contact_emails l on l.account_id = :account_id and l.address_id = s.id
join contacts c on c.account_id = l.account_id and c.id = l.contact_id
join contact_emails own on own.account_id = c.account_id and own.contact_id = c.id
where c.import_job_id is not distinct from :job_id
   or exists (select from recognized_rows m
              where m.account_id = :account_id and m.job_id = :job_id and m.contact_id = c.id
                and m.recognized_at > '-infinity')
order by own.contact_id, own.field;

-- name: insert_contact_tags!
-- The tags of the chunk's contacts: their own and the import's; the plan has made the tags.
insert into contact_tags (account_id, tag_id, contact_id)
select distinct :account_id::bigint, t.id, coalesce(r.contact_id, i.item_id)
from import_rows i
left join unnest(:recognized_item_ids::bigint[], :recognized_contact_ids::bigint[])
        as r (item_id, contact_id)
    on r.item_id = i.item_id
cross join lateral unnest(array_append(i.tags, :tag::text)) as tagged (name)
join tags t on t.account_id = :account_id and t.name = tagged.name
where i.account_id = :account_id and i.job_id = :job_id
      and i.item_id = any(:item_ids::bigint[])
on conflict do nothing;

-- name: delete_rows!
-- The rows have become contacts, or rejections.
delete from import_rows
where account_id = :account_id and job_id = :job_id and item_id = any(:item_ids::bigint[]);

-- name: insert_tags!
-- The tags that an import brings, made once for the whole of it.
insert into tags (account_id, name)
select :account_id, name
from (
    select distinct unnest(tags) as name from import_rows
    where account_id = :account_id and job_id = :job_id
    union
    select :tag::text
) named
where name is not null
order by name
on conflict (account_id, name) do nothing;

-- name: reject_row!
-- Keep a row that could not become a contact, with the reason.
insert into import_rejections (account_id, job_id, line, reason, detail)
select account_id, job_id, line, 'internal_error', :detail
from import_rows
where account_id = :account_id and job_id = :job_id and item_id = :item_id;

-- name: read_row_fields$
-- In which fields an uploaded row has an address.
select coalesce(array_agg(a.field::smallint order by a.field), '{}')
from import_rows i
cross join lateral unnest(i.match_keys) with ordinality as a (match_key, field)
where i.account_id = :account_id and i.job_id = :job_id and i.item_id = :item_id
  and a.match_key is not null;

-- name: count_rejected_rows$
-- How many rows of an import were refused whole.
select count(*) from import_rejections
where account_id = :account_id and job_id = :job_id and reason <> all(:cell_reasons::text[]);

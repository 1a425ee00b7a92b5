-- How the rows of an import chunk become contacts, in the order in which it happens. Known addresses are locked by id
-- before new ones are created by match key, so that chunks cannot deadlock.

-- name: lock_known_addresses^
-- Which addresses of the chunk the account knows, as parallel arrays; which others are in more than one of its rows;
-- and whether a row has an external id. Known addresses are locked in the order of ids, and counted as they are then.
-- Role addresses are not locked, so that chunks do not wait for each other: their opt-outs are not propagated to new
-- holders, and the end of the import counts those. So a running import may have more contacts of a role address than
-- `contact_count` says: its links are counted, up to the number with which it recognizes no contact. (An address that
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
    select e.id, e.match_key, e.contact_count, e.repeat_count,
           person_count(e.contact_count, e.repeat_count) > :role_address_limit as role
    from email_addresses e
    where e.account_id = :account_id
      and e.match_key = any((select array_agg(match_key) from keys)::text[])
), locked as materialized (
    select e.id, e.match_key, e.contact_count, e.repeat_count
    from email_addresses e
    where e.account_id = :account_id
      and e.id = any((select array_agg(id) from found where not role)::bigint[])
      and person_count(e.contact_count, e.repeat_count) <= :role_address_limit
    order by e.id
    for no key update
), known as materialized (
    select id, match_key, false as role, contact_count, repeat_count
    from locked
    union all
    select f.id, f.match_key, true, greatest(f.contact_count, linked.contacts)::int, f.repeat_count
    from found f
    cross join lateral (
        select count(*) as contacts
        from (
            select from contact_emails l
            where l.account_id = :account_id and l.address_id = f.id
            limit :max_contacts::int + 1
        ) first_links
    ) linked
    where f.role
)
select coalesce(array_agg(n.id) filter (where n.id is not null), '{}') as ids,
       coalesce(array_agg(k.match_key) filter (where n.id is not null), '{}') as match_keys,
       coalesce(array_agg(n.role) filter (where n.id is not null), '{}') as roles,
       coalesce(array_agg(n.contact_count) filter (where n.id is not null), '{}') as contact_counts,
       coalesce(array_agg(n.repeat_count) filter (where n.id is not null), '{}') as repeat_counts,
       coalesce(array_agg(k.match_key) filter (where n.id is null and k.rows > 1), '{}') as repeated,
       exists (select from import_rows i
               where i.account_id = :account_id and i.job_id = :job_id
                 and i.item_id = any(:item_ids::bigint[])
                 and i.external_id is not null) as has_external_ids
from keys k
left join known n on n.match_key = k.match_key;

-- name: read_rows_to_recognize
-- The rows of the chunk that may be about contacts of the account, or of other rows of the chunk: those
-- with one of the match keys or with an external id.
-- A value, for which the keys are hashed once. As a join, each row would be compared with every key: of an
-- import that has just been uploaded the planner expects one row.
select i.item_id, i.given_name, i.family_name, i.company, i.external_id, i.match_keys
from import_rows i
where i.account_id = :account_id and i.job_id = :job_id
  and i.item_id = any(:item_ids::bigint[])
  and (i.external_id is not null or (
      select bool_or(a.match_key in (select unnest(:match_keys::text[])))
      from unnest(i.match_keys) as a (match_key)))
order by i.item_id;

-- name: find_candidates
-- The contacts that hold one of the addresses or have one of the external ids, and those that share an address with
-- the latter; each with its addresses. A statement of its own, so that it sees what was committed while this
-- transaction waited for the locks.
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
-- Create the contacts of the rows that were not recognized.
insert into contacts
    (account_id, id, given_name, family_name, company, import_job_id, external_id, is_repeat)
select account_id, item_id, given_name, family_name, company, job_id,
       case when item_id <> all(:without_external_id::bigint[]) then external_id end,
       item_id = any(:repeats::bigint[])
from import_rows
where account_id = :account_id and job_id = :job_id and item_id = any(:item_ids::bigint[]);

-- name: insert_links^
-- Create the addresses of the chunk and their links: those of rows that become contacts, and those that are added to
-- recognized contacts. New addresses are created in the order of match keys. Their status is the job's initial one,
-- or the one for the status that the file states. Each address counts its new contacts, except role addresses that
-- the import repeats: the end of the import counts those.
-- Returns the new addresses with their person counts and version, and all new links. So the transaction need not
-- read or lock what it has created. This raises a unique violation if another transaction has created one of the
-- addresses, or has made one a role address, at the same moment; then the chunk begins again. (`on conflict do
-- nothing` would cost a second index lookup and a second WAL record for each new address.)
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
        -- Repeated: the planner expects one row of an import that began after its statistics were taken.
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
), new_addresses as (
    insert into email_addresses
        (account_id, address, match_key, status, status_job_id, contact_count, repeat_count)
    select :account_id, k.address, k.match_key,
           coalesce((:initial_statuses_by_stated::email_status[])[array_position(:stated::email_status[], coalesce(
               (select r.status from import_repeated_addresses r
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
      -- A sub-query for a value: `not exists` may read all repeats of the import into memory.
      and (not n.role or (
          select r.contact_count from import_repeated_addresses r
          where r.account_id = :account_id and r.job_id = :job_id and r.match_key = n.match_key) is null)
), linked as (
    insert into contact_emails (account_id, contact_id, field, address_id)
    select :account_id, h.contact_id, h.field, a.id
    from held h
    join (select id, match_key from new_addresses union all select id, match_key from known) a
        on a.match_key = h.match_key
    order by h.contact_id, h.field
    returning contact_id, field, address_id
)
select new.*, links.*
from (
    select coalesce(array_agg(id), '{}') as ids, coalesce(array_agg(person_count), '{}') as person_counts,
           min(version::text)::bigint as version
    from new_addresses
) new
cross join (
    select coalesce(array_agg(contact_id), '{}') as contact_ids,
           coalesce(array_agg(field), '{}') as fields,
           coalesce(array_agg(address_id), '{}') as address_ids
    from linked
) links;

-- name: unmark_repeats!
-- Contacts that were repeats have other addresses now than the contacts that they repeated, so they count as persons
-- for the addresses that they held before. For added addresses they are counted already.
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
-- Store what the rows add to recognized contacts.
update contacts c
set given_name = u.given_name, family_name = u.family_name, company = u.company,
    external_id = u.external_id
from unnest(:contact_ids::bigint[], :given_names::text[], :family_names::text[],
            :companies::text[], :external_ids::text[])
    as u (id, given_name, family_name, company, external_id)
where c.account_id = :account_id and c.id = any(:contact_ids::bigint[]) and c.id = u.id;

-- name: insert_recognized_rows!
-- Store as which contacts rows were recognized.
insert into recognized_rows (account_id, job_id, item_id, contact_id, added_fields)
select :account_id, :job_id, r.item_id, r.contact_id, coalesce(a.fields, '{}')
from unnest(:recognized_item_ids::bigint[], :recognized_contact_ids::bigint[]) as r (item_id, contact_id)
left join (
    select item_id, array_agg(field) as fields
    from unnest(:added_item_ids::bigint[], :added_fields::smallint[]) as added (item_id, field)
    group by item_id
) a on a.item_id = r.item_id;

-- name: read_stated_statuses
-- The status that the file states for each address of the chunk; the strongest, if it states several.
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
        (select r.status from import_repeated_addresses r
         where r.account_id = :account_id and r.job_id = :job_id and r.match_key = k.match_key),
        k.status) as status
    from keys k
)
select e.id, s.status
from email_addresses e
join stated s on s.match_key = e.match_key
where e.account_id = :account_id
  and e.match_key = any((select array_agg(match_key) from stated where status is not null)::text[]);

-- name: count_final_persons
-- How many persons will hold each address when the import is done: those outside it, and all in its file. Only for
-- addresses that the import repeats. Rows about contacts outside it count twice; the end of the import corrects
-- that.
-- Each address is looked up by itself, and its contacts by their ids: statistics do not know what a running import
-- has created, and the planner expects one row. (The limit changes nothing, and `is not distinct from` keeps the
-- index of an import's contacts out.)
select e.id, (person_count(e.contact_count, e.repeat_count) - mine.persons + r.person_count)::int
           as person_count
from email_addresses e
cross join lateral (
    select person_count from import_repeated_addresses
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

-- name: insert_contact_tags!
-- The tags of the chunk's contacts: those of their rows, and the import's. The plan has created the tags.
-- Each row is looked up by itself (the limit changes nothing). As a join, the planner takes the rows for
-- one, and compares each with every recognized row.
insert into contact_tags (account_id, tag_id, contact_id)
select distinct :account_id::bigint, t.id, tagged.contact_id
from (
    select coalesce(r.contact_id, c.item_id) as contact_id,
           unnest(array_append(i.tags, :tag::text)) as name
    from unnest(:item_ids::bigint[]) as c (item_id)
    left join unnest(:recognized_item_ids::bigint[], :recognized_contact_ids::bigint[])
            as r (item_id, contact_id)
        on r.item_id = c.item_id
    cross join lateral (
        select tags from import_rows
        where account_id = :account_id and job_id = :job_id and item_id = c.item_id
        limit 1
    ) i
) tagged
join tags t on t.account_id = :account_id and t.name = tagged.name
on conflict do nothing;

-- name: delete_rows!
-- Delete the rows of a chunk, which have become contacts or rejections.
delete from import_rows
where account_id = :account_id and job_id = :job_id and item_id = any(:item_ids::bigint[]);

-- name: insert_tags!
-- Create the tags of an import, once for all its rows.
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

-- name: reject_row$
-- Replace a row that could not become a contact by an import rejection. Returns the fields in which it had an address.
with deleted as (
    delete from import_rows
    where account_id = :account_id and job_id = :job_id and item_id = :item_id
    returning line, match_keys
), rejection as (
    insert into import_rejections (account_id, job_id, line, reason, detail)
    select :account_id, :job_id, line, 'internal_error', :detail from deleted
)
select coalesce(array_agg(a.field::smallint order by a.field), '{}')
from deleted cross join unnest(match_keys) with ordinality as a (match_key, field)
where a.match_key is not null;

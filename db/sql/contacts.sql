-- Find contacts by the statuses of their addresses.

-- name: get_tag_id$
-- The id of the tag called :tag.
select id from tags where account_id = :account_id and name = :tag;

-- name: list_tags
-- The first tags of the account, for the error about a tag that does not exist.
select name from tags where account_id = :account_id order by name limit :limit;

-- name: find_contact_ids^
-- The first :limit contacts after :after that meet the conditions given: that the import created or recognized
-- them; that they have the tag; and, if :narrowed, that they hold an address in one of the fields with one of the
-- statuses, or that was unengaged before :unengaged_before. At most :max_scanned candidates are read: contacts with
-- the tag, or else of the import, or else of the account. Returns how many were read, and the last of them.
with candidates as materialized (
    (
        select contact_id as id from contact_tags
        where :tag_id::bigint is not null
          and account_id = :account_id and tag_id = :tag_id and contact_id > :after
        order by contact_id
        limit :max_scanned
    )
    union all
    (
        select id from (
            (select id from contacts
             where :tag_id::bigint is null and :import_job::bigint is not null
               and account_id = :account_id and import_job_id = :import_job and id > :after
             order by account_id, import_job_id, id
             limit :max_scanned)
            union
            (select contact_id from recognized_rows
             where :tag_id::bigint is null and :import_job::bigint is not null
               and account_id = :account_id and job_id = :import_job and contact_id > :after
               and recognized_at > '-infinity'
             group by account_id, job_id, contact_id
             order by account_id, job_id, contact_id
             limit :max_scanned)
        ) of_import
        order by id
        limit :max_scanned
    )
    union all
    (
        select id from contacts
        where :tag_id::bigint is null and :import_job::bigint is null
          and account_id = :account_id and id > :after
        order by account_id, id
        limit :max_scanned
    )
), found as materialized (
    select c.id
    from (select id from candidates order by id) c
    cross join lateral (
        select true as meets where not :narrowed::boolean
        union all
        (
            select true
            from contact_emails e
            join email_addresses a on a.account_id = e.account_id and a.id = e.address_id
            where :narrowed::boolean
              and e.account_id = :account_id and e.contact_id = c.id
              and e.field = any(:fields::smallint[])
              and (:statuses::email_status[] is null or a.status = any(:statuses::email_status[]))
              and (:unengaged_before::timestamptz is null
                   or a.status_changed_at < :unengaged_before
                   and a.status = any(:unengaged::email_status[]))
            limit 1
        )
    ) address
    where :tag_id::bigint is null or :import_job::bigint is null
       or :import_job = (select x.import_job_id from contacts x
                         where x.account_id = :account_id and x.id = c.id)
       or :import_job = (select m.job_id from recognized_rows m
                         where m.account_id = :account_id and m.job_id = :import_job
                           and m.contact_id = c.id and m.recognized_at > '-infinity'
                         limit 1)
    order by c.id
    limit :limit
)
select array(select id from found order by id) as ids,
       (select count(*) from candidates) as scanned,
       (select max(id) from candidates) as last;

-- name: read_contacts
-- Contacts with their addresses, in the order of ids.
select c.id, c.given_name, c.family_name, c.company, held.emails
from contacts c
cross join lateral (
    select coalesce(jsonb_agg(jsonb_build_object(
        'field', e.field, 'address', a.address, 'status', a.status) order by e.field), '[]') as emails
    from contact_emails e
    join email_addresses a on a.account_id = e.account_id and a.id = e.address_id
    where e.account_id = :account_id and e.contact_id = c.id
) held
where c.account_id = :account_id and c.id = any(:contact_ids::bigint[])
order by c.id;

-- name: count_addresses
-- How many addresses of each status the account's contacts hold in one of the fields.
select a.status, count(*) as addresses
from email_addresses a
where a.account_id = :account_id and exists (
    select from contact_emails e
    where e.account_id = :account_id and e.address_id = a.id
      and e.field = any(:fields::smallint[]))
group by a.status
order by a.status;

-- name: count_addresses_of_tag
-- The same for the contacts with a tag; if an import is given, only for those that it created or recognized.
select a.status, count(distinct a.id) as addresses
from contact_tags t
join contact_emails e on e.account_id = t.account_id and e.contact_id = t.contact_id
join email_addresses a on a.account_id = e.account_id and a.id = e.address_id
where t.account_id = :account_id and t.tag_id = :tag_id and e.field = any(:fields::smallint[])
  and (:import_job::bigint is null or :import_job = (
      select x.import_job_id from contacts x
      where x.account_id = :account_id and x.id = t.contact_id)
      or exists (select from recognized_rows m
                 where m.account_id = :account_id and m.job_id = :import_job
                   and m.contact_id = t.contact_id and m.recognized_at > '-infinity'))
group by a.status
order by a.status;

-- name: count_addresses_of_import
-- The same for the contacts that an import created or recognized.
select a.status, count(distinct a.id) as addresses
from contacts c
join contact_emails e on e.account_id = c.account_id and e.contact_id = c.id
join email_addresses a on a.account_id = e.account_id and a.id = e.address_id
where c.account_id = :account_id
  and (c.import_job_id = :import_job or c.id in (
      select m.contact_id from recognized_rows m
      where m.account_id = :account_id and m.job_id = :import_job))
  and e.field = any(:fields::smallint[])
group by a.status
order by a.status;

-- What the end of an import does about the addresses that its file repeats.

-- name: lock_repeated_role_addresses!
-- At the end of an import, lock the role addresses that it repeats. A chunk of another import that links and
-- counts one has then committed before they are counted, or counts it afterwards.
-- Each address is looked up by itself (the limit changes nothing). As a join, the planner may take the
-- import for one row and read all addresses of the account in the order of their keys.
select e.id
from email_addresses e
where e.account_id = :account_id
  and e.id = any(array(
      select known.id
      from import_repeated_addresses r
      cross join lateral (
          select a.id from email_addresses a
          where a.account_id = :account_id and a.match_key = r.match_key
            and person_count(a.contact_count, a.repeat_count) > :role_address_limit
          limit 1
      ) known
      where r.account_id = :account_id and r.job_id = :job_id))
  and person_count(e.contact_count, e.repeat_count) > :role_address_limit
order by e.id
for no key update;

-- name: count_contacts_of_role_addresses!
-- Count the contacts of the role addresses, which are locked by now. A statement of its own, so that it sees what was
-- committed while this transaction waited for the locks.
-- Counted first, and each address looked up by itself. As one join, the planner may read all addresses of the account
-- and count the contacts of a role address again for each.
with held as materialized (
    select known.id, counted.contacts, counted.repeats
    from import_repeated_addresses r
    cross join lateral (
        select a.id from email_addresses a
        where a.account_id = :account_id and a.match_key = r.match_key
          and person_count(a.contact_count, a.repeat_count) > :role_address_limit
        limit 1
    ) known
    cross join lateral (
        select count(*) as contacts, count(*) filter (where c.is_repeat) as repeats
        from contact_emails l
        join contacts c on c.account_id = l.account_id and c.id = l.contact_id
        where l.account_id = :account_id and l.address_id = known.id
    ) counted
    where r.account_id = :account_id and r.job_id = :job_id
)
update email_addresses e
set contact_count = held.contacts, repeat_count = held.repeats
from held
where e.account_id = :account_id and e.id = any(array(select id from held)) and e.id = held.id
  and e.contact_count < held.contacts;

-- name: find_missed_propagation
-- At the end of an import: what its contacts hold, if they hold an address that is opted out in its own right and that
-- chunks may have taken for a role address, because rows were counted that became no contacts. Such addresses are
-- few. They are looked up one by one, and `is not distinct from` keeps the index of an import's contacts out: the
-- planner may take the import for one row and read it whole, or the account's addresses in the order of keys.
with spared as materialized (
    select e.id
    from import_repeated_addresses r
    cross join lateral (
        select a.id from email_addresses a
        where a.account_id = :account_id and a.match_key = r.match_key
          and a.status = any(:own_right_statuses::email_status[])
          and a.propagated_from is null
          and person_count(a.contact_count, a.repeat_count) <= :role_address_limit
          and person_count(a.contact_count, a.repeat_count) + r.person_count > :role_address_limit
        limit 1
    ) e
    where r.account_id = :account_id and r.job_id = :job_id
)
-- `offset 0` keeps this order of joins. Statistics may not know a new account: the planner then takes each table for one
-- row, and reads all links of the account again for each link.
select own.contact_id, own.field, own.address_id, s.id as source_id
from spared s
cross join lateral (
    select contact_id from contact_emails where account_id = :account_id and address_id = s.id offset 0
) l
cross join lateral (
    select id, import_job_id from contacts where account_id = :account_id and id = l.contact_id offset 0
) c
cross join lateral (
    select contact_id, field, address_id from contact_emails
    where account_id = :account_id and contact_id = c.id
    offset 0
) own
where c.import_job_id is not distinct from :job_id
   or exists (select from recognized_rows m
              where m.account_id = :account_id and m.job_id = :job_id and m.contact_id = c.id
                and m.recognized_at > '-infinity')
order by own.contact_id, own.field;

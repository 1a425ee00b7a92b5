-- The history of an address, and why rows of a file were left out.

-- name: count_import_rejections
-- How many rows and cells of an import's file were left out, and why.
select reason, count(*) as rejected
from import_rejections where account_id = :account_id and job_id = :job_id
group by reason order by count(*) desc, reason;

-- name: count_recognized_rows$
-- How many rows of an import were about existing contacts.
select count(*) from recognized_rows where account_id = :account_id and job_id = :job_id;

-- name: get_address^
-- An address and its present status, by its match key.
select a.id, a.address, a.status, a.previous_status, a.status_job_id, a.status_changed_at,
       a.contact_count, a.propagated_from,
       (select s.address from email_addresses s
        where s.account_id = :account_id and s.id = a.propagated_from) as propagated_from_address
from email_addresses a
where a.account_id = :account_id and a.match_key = :match_key;

-- name: list_contacts
-- The first contacts that hold the address, with the number of its (contact, field) pairs in all. All holders are
-- found, and then sorted: walking the contacts in id order until enough hold it could read the whole account.
with holding as materialized (
    select contact_id, field from contact_emails
    where account_id = :account_id and address_id = :address_id
), first as materialized (
    select contact_id, field from holding order by contact_id, field limit :limit
)
select f.contact_id, f.field, c.given_name, c.family_name, c.company,
       (select count(*) from holding) as links
from first f
cross join lateral (
    select given_name, family_name, company from contacts
    where account_id = :account_id and id = f.contact_id
    limit 1
) c
order by f.contact_id, f.field;

-- name: list_history
-- What jobs decided about the address, newest first, with the actor and the evidence. Jobs are looked up by id,
-- and only for the results of the page.
with newest as materialized (
    select *
    from results
    where account_id = :account_id and address_id = :address_id
    order by decided_at desc, job_id desc, (outcome = 'applied') desc, item_id, field
    limit :limit
)
select r.job_id, j.action, j.requested_by, j.actor_kind, j.actor_id, j.via, j.evidence_source,
       r.contact_id, r.field, r.cause, r.outcome, r.reason, r.from_status, r.to_status,
       r.decided_at, r.source_address_id,
       (select a.address from email_addresses a
        where a.account_id = :account_id and a.id = r.source_address_id) as source_address,
       case when r.reason = 'internal_error' then
           (select c.error from job_chunks c
            where c.account_id = :account_id and c.job_id = r.job_id and c.chunk_no = r.chunk_no) end as error
from newest r
cross join lateral (
    select action, requested_by, actor_kind, actor_id, via, evidence ->> 'source' as evidence_source
    from jobs where account_id = :account_id and id = r.job_id
    limit 1
) j
order by r.decided_at desc, r.job_id desc, (r.outcome = 'applied') desc, r.item_id, r.field;

-- name: get_linked_address^
-- The address that a one-click link is about, and the account's name; the link names both by their ids.
select n.name as account, a.address
from email_addresses a join accounts n on n.id = a.account_id
where a.account_id = :account_id and a.id = :address_id;

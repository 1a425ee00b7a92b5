-- The propagation of a chunk's opt-out. The selected addresses are opted out in their own right by now,
-- so each is propagated: on the chunk's contacts, and, if it is shared but not a role address, on all
-- its other contacts.
with mine as materialized (
    select contact_id, field, address_id
    from contact_emails
    where account_id = %(account_id)s and contact_id = any(%(contact_ids)s::bigint[])
), sources as materialized (
    select contact_id, address_id from mine where field = any(%(fields)s::smallint[])
), spreading as (
    select o.contact_id, o.field, o.address_id, s.address_id as source_id
    from sources s
    join mine o on o.contact_id = s.contact_id
    where o.field <> all(%(fields)s::smallint[])
    union
    select o.contact_id, o.field, o.address_id, s.address_id
    from sources s
    join email_addresses y on y.account_id = %(account_id)s and y.id = s.address_id
    join contact_emails h on h.account_id = y.account_id and h.address_id = y.id
    join contact_emails o on o.account_id = h.account_id and o.contact_id = h.contact_id
    where y.contact_count > 1 and y.contact_count <= %(role_address_limit)s
), reached as materialized (
    select distinct on (x.id) s.contact_id, s.field, x.id, x.status, s.source_id
    from spreading s
    join email_addresses x on x.account_id = %(account_id)s and x.id = s.address_id
    where x.status not in ('admin', 'manual', 'list_unsubscribe', 'feedback', 'spam')
    order by x.id, s.source_id, s.contact_id, s.field
), changed as (
    update email_addresses a
    set status = 'admin', previous_status = a.status, propagated_from = r.source_id,
        status_job_id = %(job_id)s, status_changed_at = clock_timestamp()
    from reached r
    where a.account_id = %(account_id)s and a.id = r.id
)
insert into results (account_id, job_id, chunk_no, item_id, contact_id, field, address_id, outcome,
                     from_status, to_status, cause, source_address_id, decided_at)
select %(account_id)s, %(job_id)s, %(chunk_no)s, contact_id, contact_id, field, id, 'applied', status,
       'admin', 'propagated', source_id, clock_timestamp()
from reached

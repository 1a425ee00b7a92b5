-- The spread of a chunk's opt-out. What was selected is opted out in its own right by now, so all of
-- it spreads: on the chunk's contacts, and, where it is shared but no role address, on all others that
-- hold it.
with sources as materialized (
    select e.contact_id, e.address_id, a.holders
    from contact_emails e
    join email_addresses a on a.account_id = e.account_id and a.id = e.address_id
    where e.account_id = %(account_id)s
      and e.contact_id = any(%(contact_ids)s::bigint[])
      and e.field = any(%(fields)s::smallint[])
), spreading as (
    select contact_id, address_id from sources
    union
    select h.contact_id, s.address_id
    from sources s
    join contact_emails h on h.account_id = %(account_id)s and h.address_id = s.address_id
    where s.holders between 2 and %(shared_address_limit)s
), reached as materialized (
    select distinct on (x.id) o.contact_id, o.field, x.id, x.status, s.address_id as source_id
    from spreading s
    join contact_emails o on o.account_id = %(account_id)s and o.contact_id = s.contact_id
    join email_addresses x on x.account_id = o.account_id and x.id = o.address_id
    where x.status not in ('admin', 'manual', 'list_unsubscribe', 'feedback', 'spam')
    order by x.id, s.address_id, o.contact_id, o.field
), changed as (
    update email_addresses a
    set status = 'admin', previous_status = a.status, propagated_from = r.source_id,
        status_job_id = %(job_id)s, status_changed_at = clock_timestamp()
    from reached r
    where a.account_id = %(account_id)s and a.id = r.id
)
insert into results (job_id, chunk_no, contact_id, field, address_id, outcome, from_status, to_status,
                     cause, source_address_id, decided_at)
select %(job_id)s, %(chunk_no)s, contact_id, field, id, 'applied', status, 'admin', 'propagated',
       source_id, clock_timestamp()
from reached

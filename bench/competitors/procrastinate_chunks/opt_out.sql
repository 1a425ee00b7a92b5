-- The opt-out of a chunk's selected addresses, which are locked.
with decided as materialized (
    -- `before`: the job has opted the address out in another chunk.
    select e.contact_id, e.field, e.address_id, a.status,
           a.propagated_from is null
               and a.status in ('admin', 'manual', 'list_unsubscribe', 'feedback', 'spam') as own,
           a.propagated_from is null and a.status_job_id is not distinct from %(job_id)s as before,
           row_number() over (partition by a.id order by e.contact_id, e.field) > 1 as repeated
    from contact_emails e
    join email_addresses a on a.account_id = e.account_id and a.id = e.address_id
    where e.account_id = %(account_id)s
      and e.contact_id = any(%(contact_ids)s::bigint[])
      and e.field = any(%(fields)s::smallint[])
), changed as (
    update email_addresses
    set status = 'admin', previous_status = status, propagated_from = null,
        status_job_id = %(job_id)s, status_changed_at = clock_timestamp()
    where account_id = %(account_id)s and id in (select address_id from decided where not own)
)
insert into results (account_id, job_id, chunk_no, item_id, contact_id, field, address_id, outcome,
                     reason, from_status, to_status, decided_at)
select %(account_id)s, %(job_id)s, %(chunk_no)s, contact_id, contact_id, field, address_id,
       case when own or again then 'unchanged' else 'applied' end::result_outcome,
       case when again then 'same_address_in_job' when own then 'already_opted_out' end,
       case when again then 'admin' else status end,
       case when not own and not again then 'admin'::email_status end,
       clock_timestamp()
from decided,
lateral (select before or (not own and repeated) as again) x

-- The opt-in of a chunk whose addresses are locked: decide, change, insert results.
with rules (status, outcome, reason) as (
    values ('non_marketable'::email_status, 'applied'::result_outcome, null::text),
           ('single_opt_in', 'unchanged', 'already_marketable'),
           ('double_opt_in', 'unchanged', 'already_marketable'),
           ('confirmed', 'unchanged', 'already_marketable'),
           ('unengaged_marketable', 'unchanged', 'already_marketable'),
           ('unengaged_non_marketable', 'rejected', 'unengaged'),
           ('lockdown', 'rejected', 'locked_down'),
           ('bounce', 'rejected', 'bounced'),
           ('hard_bounce', 'rejected', 'hard_bounced'),
           ('invalid', 'rejected', 'invalid_address'),
           ('deactivated', 'rejected', 'deactivated_mailbox'),
           ('system', 'rejected', 'system_suppressed'),
           ('admin', 'rejected', 'opted_out_by_account'),
           ('manual', 'rejected', 'opted_out_by_recipient'),
           ('list_unsubscribe', 'rejected', 'opted_out_by_recipient'),
           ('feedback', 'rejected', 'complained'),
           ('spam', 'rejected', 'complained')
), links as materialized (
    select e.contact_id, e.field, e.address_id, a.status, a.propagated_from, a.status_job_id,
           a.contact_count
    from contact_emails e
    join email_addresses a on a.account_id = e.account_id and a.id = e.address_id
    where e.account_id = %(account_id)s and e.contact_id = any(%(contact_ids)s::bigint[])
), beside as materialized (
    -- On the chunk's own contacts, which are the only ones of most addresses.
    select x.address_id
    from links y
    join links x on x.contact_id = y.contact_id and x.address_id <> y.address_id
    where y.status in ('admin', 'manual', 'list_unsubscribe', 'feedback', 'spam')
      and y.propagated_from is null
      and y.contact_count <= %(role_address_limit)s
    union
    -- On any other contact that holds a shared address.
    select x.address_id
    from links x
    join contact_emails h on h.account_id = %(account_id)s and h.address_id = x.address_id
    join contact_emails o
        on o.account_id = h.account_id and o.contact_id = h.contact_id
        and o.address_id <> x.address_id
    join email_addresses y on y.account_id = o.account_id and y.id = o.address_id
    where x.contact_count > 1
      and x.status = 'non_marketable'
      and y.status in ('admin', 'manual', 'list_unsubscribe', 'feedback', 'spam')
      and y.propagated_from is null
      and y.contact_count <= %(role_address_limit)s
), decided as materialized (
    -- `again`: the job has changed the address before, in an earlier row or in another chunk.
    select l.contact_id, l.field, l.address_id, l.status,
           case when b.address_id is not null then 'rejected' else r.outcome end as outcome,
           case when b.address_id is not null then 'sibling_opted_out' else r.reason end as reason,
           l.status_job_id is not distinct from %(job_id)s and l.propagated_from is null as before,
           row_number() over (partition by l.address_id order by l.contact_id, l.field) > 1 as repeated
    from links l
    join rules r on r.status = l.status
    left join beside b on b.address_id = l.address_id and r.outcome = 'applied'
    where l.field = any(%(fields)s::smallint[])
), changed as (
    update email_addresses
    set status = 'single_opt_in', previous_status = status, propagated_from = null,
        status_job_id = %(job_id)s, status_changed_at = clock_timestamp()
    where account_id = %(account_id)s
      and id in (select address_id from decided where outcome = 'applied')
)
insert into results (account_id, job_id, chunk_no, item_id, contact_id, field, address_id, outcome,
                     reason, from_status, to_status, decided_at)
select %(account_id)s, %(job_id)s, %(chunk_no)s, contact_id, contact_id, field, address_id,
       case when again then 'unchanged' else outcome end,
       case when again then 'same_address_in_job' else reason end,
       case when again then 'single_opt_in' else status end,
       case when outcome = 'applied' and not again then 'single_opt_in'::email_status end,
       clock_timestamp()
from decided,
lateral (select before or (outcome = 'applied' and repeated) as again) x

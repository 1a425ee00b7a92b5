-- The whole opt-out of an account's contacts, with its propagation to the siblings, as one statement:
-- $1 account, $2 job, $3 fields.
--
-- All selected addresses are opted out in their own right when the statement ends, so each is
-- propagated: a role address to the siblings on the contacts through which it was selected, any other
-- address to all its siblings.
with decided as materialized (
    select e.contact_id, e.field, e.address_id, a.status, a.contact_count,
           case when a.status in ('admin', 'manual', 'list_unsubscribe', 'feedback', 'spam')
                     and a.propagated_from is null
                then 'unchanged' else 'applied' end::result_outcome as outcome
    from contact_emails e
    join email_addresses a on a.account_id = e.account_id and a.id = e.address_id
    where e.account_id = $1 and e.field = any($3::smallint[])
), several as materialized (
    select address_id, min(contact_id * 10 + field) as first_row
    from decided
    group by address_id
    having count(*) > 1
), reached as materialized (
    select distinct on (x.id) o.contact_id, o.field, x.id as address_id, x.status,
           d.address_id as source_id
    from decided d
    join contact_emails h on h.account_id = $1 and h.address_id = d.address_id
        and (d.contact_count <= 10 or h.field = any($3::smallint[]))
    join contact_emails o on o.account_id = $1 and o.contact_id = h.contact_id
    join email_addresses x on x.account_id = $1 and x.id = o.address_id
    where not exists (select from decided s where s.address_id = o.address_id)
      and x.status not in ('admin', 'manual', 'list_unsubscribe', 'feedback', 'spam')
    order by x.id, d.address_id, o.contact_id, o.field
), changed as (
    update email_addresses
    set status = 'admin', previous_status = status, propagated_from = null,
        status_job_id = $2, status_changed_at = clock_timestamp()
    where account_id = $1
      and not (status in ('admin', 'manual', 'list_unsubscribe', 'feedback', 'spam')
               and propagated_from is null)
      and id in (select address_id from decided)
), spread as (
    update email_addresses a
    set status = 'admin', previous_status = a.status, propagated_from = r.source_id,
        status_job_id = $2, status_changed_at = clock_timestamp()
    from reached r
    where a.account_id = $1 and a.id = r.address_id
)
insert into results (account_id, job_id, chunk_no, item_id, contact_id, field, address_id, outcome,
                     reason, from_status, to_status, cause, source_address_id, decided_at)
select $1::bigint, $2, 1, d.contact_id, d.contact_id, d.field, d.address_id,
       case when again then 'unchanged' else d.outcome end,
       case when again then 'same_address_in_job'
            when d.outcome = 'unchanged' then 'already_opted_out' end,
       case when again then 'admin' else d.status end,
       case when d.outcome = 'applied' and not again then 'admin'::email_status end,
       'direct'::result_cause, null::bigint, clock_timestamp()
from decided d
left join several s on s.address_id = d.address_id,
lateral (
    select d.outcome = 'applied'
           and coalesce(d.contact_id * 10 + d.field > s.first_row, false) as again
) y
union all
select $1, $2, 1, contact_id, contact_id, field, address_id, 'applied', null, status, 'admin',
       'propagated', source_id, clock_timestamp()
from reached

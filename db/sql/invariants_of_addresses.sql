-- Invariants of addresses, as those in invariants.sql. What an unfinished import leaves to its end is named where it
-- matters: the role addresses that its file repeats (`import_repeated_addresses`).

-- name: every_history_is_unbroken
-- Applied results that do not begin with the status with which the previous one ended; addresses that differ from their
-- last applied result, or whose job has no such result; and results `same_address_in_job` whose job has no applied
-- direct result for the address. Before its first result an address may have any status: not every address comes from
-- an import. Within a chunk, direct results come before propagated ones.
with applied as (
    select r.account_id, r.address_id, r.job_id, r.contact_id, r.from_status, r.to_status,
           r.source_address_id,
           lag(r.to_status) over history as status_before,
           lag(r.job_id) over history as job_before,
           lead(r.job_id) over history is null as last
    from results r
    where r.outcome = 'applied'
      and (:account_id::bigint is null or r.account_id = :account_id)
    window history as (
        partition by r.account_id, r.address_id
        order by r.decided_at, r.job_id, r.cause, r.item_id, r.field)
), known as (
    select account_id, id, status, previous_status, status_job_id, propagated_from
    from email_addresses
    where :account_id::bigint is null or account_id = :account_id
), broken as (
    select coalesce(l.account_id, a.account_id) as account_id,
           coalesce(l.job_id, a.status_job_id) as job_id, l.contact_id,
           coalesce(l.address_id, a.id) as address_id,
           concat_ws('; ',
               case when l.job_before is not null
                     and l.status_before is distinct from l.from_status then
                   format('begins at %s, job %s had ended at %s', coalesce(l.from_status::text, 'new'),
                          l.job_before, l.status_before) end,
               case when l.job_id is null then
                   format('job %s set it to %s, and has no result that says so',
                          a.status_job_id, a.status) end,
               case when l.last and a.id is null then 'the account has no such address' end,
               case when l.last and a.status <> l.to_status then
                   format('is %s, its last result says %s', a.status, l.to_status) end,
               case when l.last and a.id is not null
                     and (a.previous_status, a.status_job_id, a.propagated_from)
                         is distinct from (l.from_status, l.job_id, l.source_address_id) then
                   format('was %s, then set by job %s, propagated from %s; its last result says %s, %s, %s',
                          coalesce(a.previous_status::text, 'new'),
                          coalesce(a.status_job_id::text, 'none'),
                          coalesce(a.propagated_from::text, 'none'),
                          coalesce(l.from_status::text, 'new'), l.job_id,
                          coalesce(l.source_address_id::text, 'none')) end
           ) as detail
    from (
        select * from applied where last or status_before is distinct from from_status
    ) l
    full join known a on a.account_id = l.account_id and a.id = l.address_id
    where l.job_id is not null or a.status_job_id is not null
    union all
    select r.account_id, r.job_id, r.contact_id, r.address_id,
           'says that its job had changed the address before, which no result shows'
    from results r
    where r.reason = 'same_address_in_job'
      and (:account_id::bigint is null or r.account_id = :account_id)
      and not exists (
          select from results first
          where first.account_id = r.account_id and first.job_id = r.job_id
            and first.address_id = r.address_id
            and first.outcome = 'applied' and first.cause = 'direct')
)
select account_id, job_id, contact_id, address_id, detail, count(*) over () as violations
from broken
where detail <> ''
order by account_id, address_id, job_id, detail
limit :limit;

-- name: no_opt_out_was_reopened
-- Applied results from an opted-out status, propagated or not, to one that is not opted out; and marketable addresses
-- whose previous status was opted out.
with reopened as (
    select r.account_id, r.job_id, r.contact_id, r.address_id, r.from_status, r.to_status
    from results r
    where r.outcome = 'applied'
      and r.from_status = any(:opted_out::email_status[])
      and r.to_status <> all(:opted_out::email_status[])
    union all
    select a.account_id, a.status_job_id, null, a.id, a.previous_status, a.status
    from email_addresses a
    where a.status = any(:marketable::email_status[])
      and a.previous_status = any(:opted_out::email_status[])
)
select account_id, job_id, contact_id, address_id, format('%s → %s', from_status, to_status) as detail,
       count(*) over () as violations
from reopened
where :account_id::bigint is null or account_id = :account_id
order by account_id, address_id, job_id, contact_id
limit :limit;

-- name: no_opt_out_was_lost
-- Results that opted an address out, or found it opted out, with a higher rank than it has now. A propagated opt-out
-- has a lower rank than one in its own right, so this also finds one that replaced the other.
with ranks as (
    select l.status, l.propagated, l.rank
    from unnest(:statuses::email_status[], :are_propagated::boolean[], :ranks::int[])
        as l (status, propagated, rank)
), acknowledged as (
    select r.account_id, r.job_id, r.contact_id, r.address_id,
           coalesce(r.to_status, r.from_status) as status, r.cause = 'propagated' as propagated
    from results r
    where ((r.outcome = 'applied' and r.to_status = any(:opted_out::email_status[]))
           or (r.outcome = 'unchanged' and r.reason = 'already_opted_out'))
      and (:account_id::bigint is null or r.account_id = :account_id)
)
select k.account_id, k.job_id, k.contact_id, k.address_id,
       format('%s %s, is %s %s now', case when k.propagated then 'propagated as' else 'opted out as' end,
              k.status, coalesce(a.status::text, 'missing'),
              case when a.propagated_from is not null then 'propagated' else 'in its own right' end
       ) as detail,
       count(*) over () as violations
from acknowledged k
left join ranks was on was.status = k.status and was.propagated = k.propagated
left join email_addresses a on a.account_id = k.account_id and a.id = k.address_id
left join ranks now on now.status = a.status and now.propagated = (a.propagated_from is not null)
where now.rank is null or was.rank is null or now.rank < was.rank
order by k.account_id, k.address_id, k.job_id, k.contact_id
limit :limit;

-- name: no_sibling_of_an_opt_out_is_marketable
-- Marketable addresses with a sibling that is opted out in its own right and is no role address. Siblings that an
-- unfinished import repeats are left out: only its end decides whether they are role addresses.
with sources as (
    select y.account_id, y.id, y.status
    from email_addresses y
    where y.status = any(:own_right::email_status[])
      and y.propagated_from is null
      and person_count(y.contact_count, y.repeat_count) <= :role_address_limit
      and (:account_id::bigint is null or y.account_id = :account_id)
      and not exists (
          select from import_repeated_addresses i
          join jobs j on j.account_id = i.account_id and j.id = i.job_id
          where i.account_id = y.account_id and i.match_key = y.match_key
            and j.state in ('planning', 'running', 'paused'))
), siblings as (
    select distinct y.account_id, x.status_job_id as job_id, h.contact_id, x.id as address_id,
           format('%s, a sibling of address %s, which is %s', x.status, y.id, y.status) as detail
    from sources y
    join contact_emails h on h.account_id = y.account_id and h.address_id = y.id
    join contact_emails o
        on o.account_id = h.account_id and o.contact_id = h.contact_id and o.address_id <> y.id
    join email_addresses x on x.account_id = o.account_id and x.id = o.address_id
    where x.status = any(:marketable::email_status[])
)
select account_id, job_id, contact_id, address_id, detail, count(*) over () as violations
from siblings
order by account_id, address_id, contact_id, detail
limit :limit;

-- name: every_address_counts_its_contacts
-- Addresses whose counts of contacts and of repeats are wrong. For a role address that an unfinished import repeats,
-- the count only has to be above the limit and not above the truth.
with held as (
    select e.account_id, e.address_id, count(distinct e.contact_id) as contacts,
           count(distinct e.contact_id) filter (where c.is_repeat) as repeats
    from contact_emails e
    join contacts c on c.account_id = e.account_id and c.id = e.contact_id
    where :account_id::bigint is null or e.account_id = :account_id
    group by e.account_id, e.address_id
)
select a.account_id, a.id as address_id,
       format('says %s and %s repeats, held by %s and %s', a.contact_count, a.repeat_count,
              coalesce(h.contacts, 0), coalesce(h.repeats, 0)) as detail,
       count(*) over () as violations
from email_addresses a
left join held h on h.account_id = a.account_id and h.address_id = a.id
where (a.contact_count, a.repeat_count) <> (coalesce(h.contacts, 0), coalesce(h.repeats, 0))
  and (:account_id::bigint is null or a.account_id = :account_id)
  and not (person_count(a.contact_count, a.repeat_count) > :role_address_limit
           and a.contact_count <= h.contacts and exists (
      select from import_repeated_addresses i
      join jobs j on j.account_id = i.account_id and j.id = i.job_id
      where i.account_id = a.account_id and i.match_key = a.match_key
        and j.state in ('planning', 'running', 'paused')))
order by a.account_id, a.id
limit :limit;

-- name: every_repeat_has_the_addresses_of_another
-- Contacts that do not count as persons although no contact that does has the same addresses.
with held as (
    select e.account_id, e.contact_id, array_agg(e.address_id order by e.address_id) as address_ids
    from contact_emails e
    where :account_id::bigint is null or e.account_id = :account_id
    group by e.account_id, e.contact_id
), sets as (
    select h.account_id, h.address_ids, min(c.id) as contact_id
    from held h
    join contacts c on c.account_id = h.account_id and c.id = h.contact_id
    group by h.account_id, h.address_ids
    having bool_and(c.is_repeat)
)
select account_id, contact_id,
       'is a repeat, and no contact with these addresses counts as a person' as detail,
       count(*) over () as violations
from sets
order by account_id, contact_id
limit :limit;

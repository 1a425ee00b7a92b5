-- What must be true of the data, each as a query that gives the rows which break it. They only read,
-- and go over each large table once, so they suit a production database as well.
--
-- Each row tells account, job, contact and address where they apply, a text of ids, statuses and
-- times (never an address or a name), and how many rows there are in all. :account_id narrows to one
-- account, null means all; :limit is how many rows to give.
--
-- Each is one statement, so it sees one moment. All but the first hold at every moment: a chunk
-- commits wholly or not at all. What a running or paused import leaves to its end is named where it
-- matters: role addresses that its file repeats (import_repeats).

-- name: plan_for_all_rows!
-- Let the transaction use so much memory for each sort and hash, and join large tables by going over
-- them once: how many contacts a chunk lists is not known to the planner, which then takes them for
-- few and looks up each of millions.
select set_config('work_mem', :memory, true), set_config('enable_nestloop', 'off', true);

-- name: every_job_has_ended
-- Jobs that wait for their plan or run. At rest there are none; a paused job rests.
select j.account_id, j.id as job_id, null::bigint as contact_id, null::bigint as address_id,
       format('%s since %s', j.state,
              (select max(s.entered_at) from job_states s
               where s.account_id = j.account_id and s.job_id = j.id)) as detail,
       count(*) over () as violations
from jobs j
where j.state in ('planning', 'running')
  and (:account_id::bigint is null or j.account_id = :account_id)
order by j.id
limit :limit;

-- name: every_pair_is_accounted_for
-- Jobs whose chunks do not hold exactly the pairs that were selected, or which completed although
-- some are missing. Halves of a split chunk stand for it; what is pending was not reached. Ids that
-- were asked for, with no other condition, are all selected, and listed where workers have to read
-- them. A job without a plan has no chunks.
with planned as (
    select c.account_id, c.job_id,
           coalesce(sum(c.pairs) filter (where c.state <> 'split'), 0) as pairs,
           count(*) filter (where c.state = 'pending') as pending,
           count(*) filter (
               where c.chunk_no > 0
                 and c.pairs <> cardinality(c.item_ids) * cardinality(j.fields)
           ) as of_wrong_size,
           count(*) filter (
               where c.state = 'done'
                 and c.pairs <> c.applied + c.unchanged + c.rejected + c.empty
           ) as not_adding_up
    from job_chunks c
    join jobs j on j.account_id = c.account_id and j.id = c.job_id
    where :account_id::bigint is null or c.account_id = :account_id
    group by c.account_id, c.job_id
), listed as (
    select l.account_id, l.job_id, sum(cardinality(l.contact_ids)) as contacts
    from job_contacts l
    group by l.account_id, l.job_id
), compared as (
    select j.account_id, j.id as job_id, concat_ws('; ',
        case when j.planned_at is null and (j.selected is not null or p.job_id is not null) then
            'chunks or a total without a plan' end,
        case when j.planned_at is not null and j.selected is distinct from coalesce(p.pairs, 0) then
            format('%s pairs selected, %s in chunks', coalesce(j.selected::text, 'no'),
                   coalesce(p.pairs, 0)) end,
        case when p.of_wrong_size > 0 then
            format('%s chunks have not their items times fields as pairs', p.of_wrong_size) end,
        case when p.not_adding_up > 0 then
            format('%s done chunks do not add up', p.not_adding_up) end,
        case when j.planned_at is not null and j.selection - 'contacts' = '{}'
              and j.selection ? 'contacts' and j.selected
              is distinct from (j.selection ->> 'contacts')::bigint * cardinality(j.fields) then
            format('%s contacts asked for, %s pairs selected', j.selection ->> 'contacts',
                   coalesce(j.selected::text, 'no')) end,
        case when j.planned_at is not null and j.selection ? 'addresses' and j.selected
              is distinct from (j.selection ->> 'addresses')::bigint then
            format('%s addresses asked for, %s selected', j.selection ->> 'addresses',
                   coalesce(j.selected::text, 'no')) end,
        case when l.contacts is distinct from (j.selection ->> 'contacts')::bigint
              and l.job_id is not null then
            format('%s contacts asked for, %s listed', coalesce(j.selection ->> 'contacts', 'no'),
                   l.contacts) end,
        case when j.state = 'completed' and p.pending > 0 then
            format('completed with %s chunks pending', p.pending) end,
        case when j.state = 'completed'
              and j.selected is distinct from j.applied + j.unchanged + j.rejected + j.empty then
            format('completed with %s pairs of %s', j.applied + j.unchanged + j.rejected + j.empty,
                   coalesce(j.selected::text, 'no')) end
    ) as detail
    from jobs j
    left join planned p on p.account_id = j.account_id and p.job_id = j.id
    left join listed l on l.account_id = j.account_id and l.job_id = j.id
    where :account_id::bigint is null or j.account_id = :account_id
)
select account_id, job_id, null::bigint as contact_id, null::bigint as address_id, detail,
       count(*) over () as violations
from compared
where detail <> ''
order by job_id
limit :limit;

-- name: job_counts_are_those_of_its_chunks
-- Ended jobs whose counts are not the sums of their done chunks. Those of other jobs lag.
select j.account_id, j.id as job_id, null::bigint as contact_id, null::bigint as address_id,
       format('the job says %s applied, %s unchanged, %s rejected, %s empty, %s propagated;'
              ' its chunks %s, %s, %s, %s, %s',
              j.applied, j.unchanged, j.rejected, j.empty, j.propagated,
              c.applied, c.unchanged, c.rejected, c.empty, c.propagated) as detail,
       count(*) over () as violations
from jobs j
cross join lateral job_sums(j.account_id, j.id) c
where j.state in ('completed', 'cancelled', 'failed')
  and (:account_id::bigint is null or j.account_id = :account_id)
  and (j.applied, j.unchanged, j.rejected, j.empty, j.propagated)
      is distinct from (c.applied, c.unchanged, c.rejected, c.empty, c.propagated)
order by j.id
limit :limit;

-- name: chunk_counts_are_those_of_its_rows
-- Done chunks that count other results than there are, in all or by reason. Empty pairs have no row.
with tallied as (
    select r.account_id, r.job_id, r.chunk_no, r.outcome, r.cause, r.reason, count(*) as rows
    from results r
    where :account_id::bigint is null or r.account_id = :account_id
    group by r.account_id, r.job_id, r.chunk_no, r.outcome, r.cause, r.reason
), counted as (
    select t.account_id, t.job_id, t.chunk_no,
           sum(t.rows) filter (where t.cause = 'direct' and t.outcome = 'applied') as applied,
           sum(t.rows) filter (where t.cause = 'direct' and t.outcome = 'unchanged') as unchanged,
           sum(t.rows) filter (where t.cause = 'direct' and t.outcome = 'rejected') as rejected,
           sum(t.rows) filter (where t.cause = 'propagated') as propagated,
           jsonb_object_agg(t.outcome::text || ':' || t.reason, t.rows)
               filter (where t.cause = 'direct' and t.reason is not null) as reasons
    from tallied t
    group by t.account_id, t.job_id, t.chunk_no
), compared as (
    select c.account_id, c.job_id, c.chunk_no,
           concat_ws(', ', c.applied, c.unchanged, c.rejected, c.propagated,
                     (select coalesce(jsonb_object_agg(e.key, e.value), '{}')
                      from jsonb_each(c.reasons) e where e.value <> '0')) as said,
           concat_ws(', ', coalesce(r.applied, 0), coalesce(r.unchanged, 0),
                     coalesce(r.rejected, 0), coalesce(r.propagated, 0),
                     coalesce(r.reasons, '{}')) as found
    from job_chunks c
    left join counted r
        on r.account_id = c.account_id and r.job_id = c.job_id and r.chunk_no = c.chunk_no
    where c.state = 'done' and (:account_id::bigint is null or c.account_id = :account_id)
)
select account_id, job_id, null::bigint as contact_id, null::bigint as address_id,
       format('chunk %s says applied, unchanged, rejected, propagated, reasons = %s; its rows %s',
              chunk_no, said, found) as detail,
       count(*) over () as violations
from compared
where said <> found
order by job_id, chunk_no
limit :limit;

-- name: no_chunk_is_half_done
-- Results of chunks that are not done or do not exist, and uploaded rows that became contacts and
-- still wait to become some.
with half_done as (
    select r.account_id, r.job_id, null::bigint as contact_id,
           format('%s results of chunk %s, which is %s', r.rows, r.chunk_no,
                  coalesce(c.state::text, 'not there')) as detail
    from (
        select account_id, job_id, chunk_no, count(*) as rows
        from results group by account_id, job_id, chunk_no
    ) r
    left join job_chunks c
        on c.account_id = r.account_id and c.job_id = r.job_id and c.chunk_no = r.chunk_no
    where c.state is distinct from 'done'
    union all
    select i.account_id, i.job_id, c.id, format('line %s of the file waits, its contact is there', i.line)
    from import_rows i
    join contacts c
        on c.account_id = i.account_id and c.import_job_id = i.job_id and c.id = i.item_id
    union all
    select i.account_id, i.job_id, m.contact_id,
           format('line %s of the file waits, and was recognized', i.line)
    from import_rows i
    join recognized_rows m
        on m.account_id = i.account_id and m.job_id = i.job_id and m.item_id = i.item_id
    union all
    select l.account_id, l.job_id, null, format('line %s of the list waits, and has a result', l.line)
    from job_addresses l
    join results r
        on r.account_id = l.account_id and r.job_id = l.job_id and r.item_id = l.item_id
        and r.field = 0
)
select h.account_id, h.job_id, h.contact_id, null::bigint as address_id, h.detail,
       count(*) over () as violations
from half_done h
where :account_id::bigint is null or h.account_id = :account_id
order by h.job_id, h.contact_id, h.detail
limit :limit;

-- name: one_result_for_each_pair
-- Pairs that a job decided twice, or to which it propagated twice.
with repeated as (
    select r.account_id, r.job_id, r.item_id, r.field, r.cause, min(r.contact_id) as contact_id,
           min(r.address_id) as address_id, count(*) as rows
    from results r
    where :account_id::bigint is null or r.account_id = :account_id
    group by r.account_id, r.job_id, r.item_id, r.field, r.cause
    having count(*) > 1
)
select r.account_id, r.job_id, r.contact_id, r.address_id,
       format('item %s: %s %s results for email%s', r.item_id, r.rows, r.cause, r.field) as detail,
       count(*) over () as violations
from repeated r
order by r.job_id, r.item_id, r.field
limit :limit;

-- name: every_selected_address_has_a_result
-- Of the items of done chunks: addresses in a selected field without a direct result, since what
-- counts as empty must be; and contacts that are not there, with no result that says so. (A contact
-- that could not be done, and was not there, has no result: its chunk has the error.) Not those that
-- an import added to the contact when the chunk had been read; a minute is what that may take to
-- commit.
with worked as (
    select j.account_id, c.job_id, j.fields, c.error is not null as refused,
           c.finished_at - make_interval(secs => 60 + coalesce(c.duration_ms, 0) / 1000.0) as read_at,
           unnest(c.item_ids) as item_id
    from job_chunks c
    join jobs j on j.account_id = c.account_id and j.id = c.job_id
    where c.state = 'done' and (:account_id::bigint is null or c.account_id = :account_id)
), missing as (
    select w.account_id, w.job_id, e.contact_id, e.address_id,
           format('no result for email%s', e.field) as detail
    from worked w
    join contact_emails e
        on e.account_id = w.account_id and e.contact_id = w.item_id and e.field = any(w.fields)
    where not exists (
        select from results r
        where r.account_id = w.account_id and r.job_id = w.job_id and r.item_id = w.item_id
          and r.field = e.field and r.cause = 'direct')
      and not exists (
        select from recognized_rows m
        where m.account_id = e.account_id and m.contact_id = e.contact_id and e.field = any(m.added_fields)
          and m.recognized_at > w.read_at)
    union all
    select w.account_id, w.job_id, null, null, format('item %s: neither a contact nor a result', w.item_id)
    from worked w
    where not w.refused
      and not exists (
          select from contacts c where c.account_id = w.account_id and c.id = w.item_id
            and w.fields <> '{0}')
      and not exists (
          select from results r
          where r.account_id = w.account_id and r.job_id = w.job_id and r.item_id = w.item_id
            and r.cause = 'direct')
)
select account_id, job_id, contact_id, address_id, detail, count(*) over () as violations
from missing
order by job_id, contact_id, detail
limit :limit;

-- name: every_ledger_is_unbroken
-- Applied results that do not begin where the one before ended; addresses that are not what their
-- last applied result made them, or say that a job set them and no result tells so; and results that
-- speak of another one in their job which is not there. The first may begin anywhere: contacts come
-- by other ways too. Within a chunk what was selected comes before what was reached by spreading.
with applied as (
    select r.account_id, r.address_id, r.job_id, r.contact_id, r.from_status, r.to_status,
           r.source_address_id,
           lag(r.to_status) over ledger as status_before,
           lag(r.job_id) over ledger as job_before,
           lead(r.job_id) over ledger is null as last
    from results r
    where r.outcome = 'applied'
      and (:account_id::bigint is null or r.account_id = :account_id)
    window ledger as (
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
                   format('job %s is said to have set it to %s', a.status_job_id, a.status) end,
               case when l.last and a.id is null then 'the account has no such address' end,
               case when l.last and a.status <> l.to_status then
                   format('is %s, was last made %s', a.status, l.to_status) end,
               case when l.last and a.id is not null
                     and (a.previous_status, a.status_job_id, a.propagated_from)
                         is distinct from (l.from_status, l.job_id, l.source_address_id) then
                   format('came from %s by job %s, spread from %s; the last result says %s, %s, %s',
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
           'its job is said to have changed the address already, and did not'
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
-- Applied results that lead from an opted-out status, whether it was its own or had spread, to one
-- that is not; and marketable addresses that were opted out just before.
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
-- Results that opted an address out, or found it opted out, more strongly than it is now:
-- suppression only climbs. An opt-out that spread counts less than one in its own right, so this
-- also tells where one of its own became one that spread.
with ladder as (
    select l.status, l.spread, l.rank
    from unnest(:statuses::email_status[], :spread::boolean[], :ranks::int[])
        as l (status, spread, rank)
), acknowledged as (
    select r.account_id, r.job_id, r.contact_id, r.address_id,
           coalesce(r.to_status, r.from_status) as status, r.cause = 'propagated' as spread
    from results r
    where ((r.outcome = 'applied' and r.to_status = any(:opted_out::email_status[]))
           or (r.outcome = 'unchanged' and r.reason = 'already_opted_out'))
      and (:account_id::bigint is null or r.account_id = :account_id)
)
select k.account_id, k.job_id, k.contact_id, k.address_id,
       format('%s %s, is %s %s now', case when k.spread then 'reached by' else 'opted out as' end,
              k.status, coalesce(a.status::text, 'not there'),
              case when a.propagated_from is not null then 'by spreading' else 'in its own right' end
       ) as detail,
       count(*) over () as violations
from acknowledged k
left join ladder was on was.status = k.status and was.spread = k.spread
left join email_addresses a on a.account_id = k.account_id and a.id = k.address_id
left join ladder now on now.status = a.status and now.spread = (a.propagated_from is not null)
where now.rank is null or was.rank is null or now.rank < was.rank
order by k.account_id, k.address_id, k.job_id, k.contact_id
limit :limit;

-- name: no_address_is_marketable_beside_an_opt_out
-- Marketable addresses on a contact that also holds one which is opted out in its own right and is
-- no role address. Not those that an import which has not ended repeats: whether they are role
-- addresses is settled at its end.
with spreading as (
    select y.account_id, y.id, y.status
    from email_addresses y
    where y.status = any(:own_right::email_status[])
      and y.propagated_from is null
      and person_count(y.contact_count, y.repeat_count) <= :shared_address_limit
      and (:account_id::bigint is null or y.account_id = :account_id)
      and not exists (
          select from import_repeats i
          join jobs j on j.account_id = i.account_id and j.id = i.job_id
          where i.account_id = y.account_id and i.match_key = y.match_key
            and j.state in ('planning', 'running', 'paused'))
), beside as (
    select distinct y.account_id, x.status_job_id as job_id, h.contact_id, x.id as address_id,
           format('%s, beside address %s, which is %s', x.status, y.id, y.status) as detail
    from spreading y
    join contact_emails h on h.account_id = y.account_id and h.address_id = y.id
    join contact_emails o
        on o.account_id = h.account_id and o.contact_id = h.contact_id and o.address_id <> y.id
    join email_addresses x on x.account_id = o.account_id and x.id = o.address_id
    where x.status = any(:marketable::email_status[])
)
select account_id, job_id, contact_id, address_id, detail, count(*) over () as violations
from beside
order by account_id, address_id, contact_id, detail
limit :limit;

-- name: every_address_counts_its_contacts
-- Addresses whose counts of contacts and of repeats are not those of the contacts that hold them. Of a
-- role address that an import which has not ended repeats, the count only has to be over the limit
-- and not over the truth.
with held as (
    select e.account_id, e.address_id, count(distinct e.contact_id) as contacts,
           count(distinct e.contact_id) filter (where c.is_repeat) as repeats
    from contact_emails e
    join contacts c on c.account_id = e.account_id and c.id = e.contact_id
    where :account_id::bigint is null or e.account_id = :account_id
    group by e.account_id, e.address_id
)
select a.account_id, null::bigint as job_id, null::bigint as contact_id, a.id as address_id,
       format('says %s and %s repeats, held by %s and %s', a.contact_count, a.repeat_count,
              coalesce(h.contacts, 0), coalesce(h.repeats, 0)) as detail,
       count(*) over () as violations
from email_addresses a
left join held h on h.account_id = a.account_id and h.address_id = a.id
where (a.contact_count, a.repeat_count) <> (coalesce(h.contacts, 0), coalesce(h.repeats, 0))
  and (:account_id::bigint is null or a.account_id = :account_id)
  and not (person_count(a.contact_count, a.repeat_count) > :shared_address_limit
           and a.contact_count <= h.contacts and exists (
      select from import_repeats i
      join jobs j on j.account_id = i.account_id and j.id = i.job_id
      where i.account_id = a.account_id and i.match_key = a.match_key
        and j.state in ('planning', 'running', 'paused')))
order by a.account_id, a.id
limit :limit;

-- name: every_repeat_has_the_addresses_of_another
-- Contacts that do not count as people, and there is no contact that does and has the same addresses.
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
select account_id, null::bigint as job_id, contact_id, null::bigint as address_id,
       'is a repeat, and no contact with these addresses counts' as detail,
       count(*) over () as violations
from sets
order by account_id, contact_id
limit :limit;

-- name: every_recognized_row_is_its_contacts
-- Rows of an import that were recognized as a contact which does not hold one of their addresses.
select m.account_id, m.job_id, m.contact_id, r.address_id,
       format('item %s was recognized as a contact without this address', m.item_id) as detail,
       count(*) over () as violations
from recognized_rows m
join results r
    on r.account_id = m.account_id and r.job_id = m.job_id and r.item_id = m.item_id
    and r.cause = 'direct'
where (:account_id::bigint is null or m.account_id = :account_id)
  and not exists (
      select from contact_emails e
      where e.account_id = m.account_id and e.contact_id = m.contact_id
        and e.address_id = r.address_id)
order by m.job_id, m.item_id, r.address_id
limit :limit;

-- name: every_result_names_its_contact
-- Results whose contact is not that of their item, or is none of the account. A listed address has none, nor has
-- an id that no contact has, nor an import row that could not be done. Of an import row it is the contact that
-- the row was recognized as, or became.
with expected as (
    select r.account_id, r.job_id, r.item_id, r.address_id, r.contact_id,
           case when r.field = 0 or r.reason = 'contact_not_found'
                  or (r.reason = 'internal_error' and r.address_id is null) then null
                else coalesce(m.contact_id, r.item_id) end as expected_id
    from results r
    left join recognized_rows m
        on m.account_id = r.account_id and m.job_id = r.job_id and m.item_id = r.item_id
    where :account_id::bigint is null or r.account_id = :account_id
)
select x.account_id, x.job_id, x.contact_id, x.address_id,
       format('item %s is of contact %s, the result names %s', x.item_id,
              coalesce(x.expected_id::text, 'none'), coalesce(x.contact_id::text, 'none')) as detail,
       count(*) over () as violations
from expected x
left join contacts c on c.account_id = x.account_id and c.id = x.contact_id
where x.contact_id is distinct from x.expected_id or (x.contact_id is not null and c.id is null)
order by x.job_id, x.item_id, x.address_id
limit :limit;

-- name: decided_only_while_running
-- Chunks of which something was decided, or which were done, while their job was not running: before
-- its plan, after a pause had answered, or after it had ended. The end of a paused import (chunk 0)
-- is settled when it is cancelled. Also jobs whose state is not the last that was noted, since this
-- rests on it.
with standing as (
    select s.account_id, s.job_id, s.state, s.entered_at,
           lead(s.state) over course as next_state,
           coalesce(lead(s.entered_at) over course, 'infinity') as left_at
    from job_states s
    window course as (partition by s.account_id, s.job_id order by s.entered_at)
), decided as (
    select w.account_id, w.job_id, w.chunk_no, min(w.first) as first, max(w.last) as last
    from (
        select account_id, job_id, chunk_no, min(decided_at) as first, max(decided_at) as last
        from results group by account_id, job_id, chunk_no
        union all
        select account_id, job_id, chunk_no, finished_at, finished_at from job_chunks where state = 'done'
    ) w
    group by w.account_id, w.job_id, w.chunk_no
), untimely as (
    select d.account_id, d.job_id, d.chunk_no,
           format('chunk %s was decided between %s and %s, the job was %s from %s on',
                  d.chunk_no, d.first, d.last, s.state, s.entered_at) as detail
    from decided d
    join standing s on s.account_id = d.account_id and s.job_id = d.job_id
    where s.state <> 'running' and d.last > s.entered_at and d.first < s.left_at
      and not (d.chunk_no = 0 and s.state = 'paused' and s.next_state is not distinct from 'cancelled')
    union all
    select j.account_id, j.id, 0, format('is %s, last noted as %s', j.state, coalesce(s.state::text, 'nothing'))
    from jobs j
    left join standing s on s.account_id = j.account_id and s.job_id = j.id and s.left_at = 'infinity'
    where s.state is distinct from j.state
)
select u.account_id, u.job_id, null::bigint as contact_id, null::bigint as address_id, u.detail,
       count(*) over () as violations
from untimely u
where :account_id::bigint is null or u.account_id = :account_id
order by u.job_id, u.chunk_no, u.detail
limit :limit;

-- name: every_job_has_its_actor
-- Jobs that do not say who asked for them as their submission was kept: exactly one event, by the same
-- actor and by the same way. Jobs that an older version stored have neither.
select j.account_id, j.id as job_id, null::bigint as contact_id, null::bigint as address_id,
       format('asked for by %s, and submitted %s times by %s', coalesce(j.actor_kind, 'no actor'),
              count(t.id), coalesce(min(t.actor_kind), 'no actor')) as detail,
       count(*) over () as violations
from jobs j
left join activity t
    on t.account_id = j.account_id and t.job_id = j.id and t.event = 'job.submitted'
where :account_id::bigint is null or j.account_id = :account_id
group by j.account_id, j.id
having count(t.id) <> (j.actor_kind is not null)::int
    or bool_or((j.actor_kind, j.actor_id, j.via) is distinct from (t.actor_kind, t.actor_id, t.via))
order by j.id
limit :limit;

-- name: every_change_of_state_has_its_actor
-- Jobs that were paused, resumed, cancelled or applied more often, or less often, than that was kept
-- with who did it. Of a job that an older version stored, some may not be kept.
with steps as (
    select account_id, job_id, state,
           lag(state) over (partition by account_id, job_id order by entered_at) as before
    from job_states
), events as (
    select account_id, job_id, 1 as happened, 0 as kept,
           case when state = 'paused' then 'job.paused'
                when state = 'cancelled' then 'job.cancelled'
                when before = 'paused' and state in ('planning', 'running') then 'job.resumed'
                when before = 'planned' and state = 'planning' then 'plan.applied'
           end as event
    from steps
    union all
    select account_id, job_id, 0, 1, event
    from activity where job_id is not null and event <> 'job.submitted'
), counted as (
    select account_id, job_id, event, sum(happened) as happened, sum(kept) as kept
    from events
    where event is not null
    group by account_id, job_id, event
    having sum(happened) <> sum(kept)
)
select j.account_id, c.job_id, null::bigint as contact_id, null::bigint as address_id,
       format('%s happened %s times, and is kept %s times', c.event, c.happened, c.kept) as detail,
       count(*) over () as violations
from counted c
join jobs j on j.account_id = c.account_id and j.id = c.job_id
where (j.actor_kind is not null or c.kept > c.happened)
  and (:account_id::bigint is null or j.account_id = :account_id)
order by c.job_id, c.event
limit :limit;

-- name: activity_stays_within_its_account
-- Events of, or by, what is not of their account: a job, a key or a hook of another one, or of none.
select t.account_id, t.job_id, null::bigint as contact_id, null::bigint as address_id,
       format('event %s, %s by %s %s', t.id, t.event, t.actor_kind, t.actor_id) as detail,
       count(*) over () as violations
from activity t
left join jobs j on j.account_id = t.account_id and j.id = t.job_id
left join api_keys k on k.account_id = t.account_id and k.id = t.key_id
left join hooks h on h.account_id = t.account_id and h.id = t.hook_id
left join api_keys by_key
    on t.actor_kind = 'key' and by_key.account_id = t.account_id and by_key.id = t.actor_id
left join hooks by_hook
    on t.actor_kind = 'hook' and by_hook.account_id = t.account_id and by_hook.id = t.actor_id
where (:account_id::bigint is null or t.account_id = :account_id)
  and ((t.event not like 'account.%' and coalesce(j.id, k.id, h.id) is null)
       or (t.actor_kind = 'key' and by_key.id is null)
       or (t.actor_kind = 'hook' and by_hook.id is null))
order by t.id
limit :limit;

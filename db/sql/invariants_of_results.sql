-- Invariants of results, as those in invariants.sql.

-- name: chunk_counts_are_those_of_its_rows
-- Done chunks that count other results than exist, in all or by reason. Empty pairs have no result.
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
select account_id, job_id,
       format('chunk %s says applied, unchanged, rejected, propagated, reasons = %s; its rows %s',
              chunk_no, said, found) as detail,
       count(*) over () as violations
from compared
where said <> found
order by job_id, chunk_no
limit :limit;

-- name: no_chunk_is_half_done
-- Results of chunks that are not done or do not exist; import rows and listed addresses that still wait although they
-- were done.
with half_done as (
    select r.account_id, r.job_id, null::bigint as contact_id,
           format('%s results of chunk %s, which is %s', r.rows, r.chunk_no,
                  coalesce(c.state::text, 'missing')) as detail
    from (
        select account_id, job_id, chunk_no, count(*) as rows
        from results group by account_id, job_id, chunk_no
    ) r
    left join job_chunks c
        on c.account_id = r.account_id and c.job_id = r.job_id and c.chunk_no = r.chunk_no
    where c.state is distinct from 'done'
    union all
    select i.account_id, i.job_id, c.id, format('line %s of the file waits, although its contact exists', i.line)
    from import_rows i
    join contacts c
        on c.account_id = i.account_id and c.import_job_id = i.job_id and c.id = i.item_id
    union all
    select i.account_id, i.job_id, m.contact_id,
           format('line %s of the file waits, although it was recognized', i.line)
    from import_rows i
    join recognized_rows m
        on m.account_id = i.account_id and m.job_id = i.job_id and m.item_id = i.item_id
    union all
    select l.account_id, l.job_id, null, format('line %s of the list waits, although it has a result', l.line)
    from job_addresses l
    join results r
        on r.account_id = l.account_id and r.job_id = l.job_id and r.item_id = l.item_id
        and r.field = 0
)
select h.account_id, h.job_id, h.contact_id, h.detail, count(*) over () as violations
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
-- Items of done chunks with an address in a selected field that has no direct result, so that it was counted as empty;
-- and items that are no contact, without a result that says so. (An item that failed and is no contact has no
-- result: its chunk has the error.) Addresses that an import added to the contact after the chunk was read are left
-- out; a minute is allowed for that import's commit.
with worked as (
    select j.account_id, c.job_id, j.fields, c.error is not null as has_error,
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
    where not w.has_error
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

-- name: every_recognized_row_is_its_contacts
-- Import rows that were recognized as a contact that does not hold one of their addresses.
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
-- Results whose contact is not that of their item, or is not of the account. A listed address has no contact, nor has
-- an unknown id, or an import row that failed. The contact of any other import row is the one that it was recognized
-- as, or became.
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

-- What the measurement under load asks the database.

-- name: first_contact$
-- The lowest contact id of the account; the others follow without a gap.
select min(id) from contacts where account_id = :account_id;

-- name: applied_now$
-- Whether the job has completed and the contact's email1 is opted out, seen from outside.
select exists (select from jobs where id = :job_id and state = 'completed')
   and exists (select from contact_emails e
               join email_addresses a on a.account_id = e.account_id and a.id = e.address_id
               where e.account_id = :account_id and e.contact_id = :contact_id and e.field = 1
                 and a.status = 'manual');

-- name: lost$
-- How many of the acknowledged opt-outs are not in the ledger, or have an address that can be
-- mailed: email1 opted out by the job itself, and email2, which it spread to.
select count(*)
from unnest(:job_ids::bigint[], :contact_ids::bigint[]) as k (job_id, contact_id)
where not exists (
        select from results r
        where r.job_id = k.job_id and r.contact_id = k.contact_id and r.field = 1
          and r.cause = 'direct' and r.outcome = 'applied' and r.to_status = 'manual')
   or not exists (select from jobs j where j.id = k.job_id and j.state = 'completed')
   or exists (
        select from contact_emails e
        join email_addresses a on a.account_id = e.account_id and a.id = e.address_id
        where e.account_id = :account_id and e.contact_id = k.contact_id
          and a.status not in ('manual', 'admin'));

-- name: still_marketable$
-- How many of the contacts have an address that can be mailed.
select count(distinct e.contact_id)
from contact_emails e
join email_addresses a on a.account_id = e.account_id and a.id = e.address_id
where e.account_id = :account_id and e.contact_id = any(:contact_ids::bigint[])
  and a.status in ('single_opt_in', 'double_opt_in', 'confirmed', 'unengaged_marketable');

-- name: job_times^
-- Seconds from a job's submission to its start and its end; null for what has not come yet.
select extract(epoch from started_at - created_at)::float8 as started,
       extract(epoch from finished_at - created_at)::float8 as finished,
       state::text
from jobs where id = :job_id;

-- name: shares
-- Which share of its pairs each of the jobs has done.
select j.id, coalesce(sum(c.pairs) filter (where c.state = 'done'), 0)::float8
             / greatest(j.selected, 1) as share
from jobs j left join job_chunks c on c.job_id = j.id
where j.id = any(:job_ids::bigint[])
group by j.id
order by j.id;

-- name: latest_start$
-- Seconds from the submission of the first of the jobs to the start of the last one.
select extract(epoch from max(started_at) - min(created_at))::float8
from jobs where id = any(:job_ids::bigint[]);

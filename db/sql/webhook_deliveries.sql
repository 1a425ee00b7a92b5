-- Completion notices: the URL that is to be told how a job ended. A notice is due from the moment at
-- which its job ends (the trigger `note_state`), and again after each attempt that failed. What is due
-- is compared with now(), which an index can be searched by, as it cannot by clock_timestamp().

-- name: insert_delivery!
-- Keep the URL that a job's end is to be told at.
insert into completion_notices (job_id, url) values (:job_id, :url);

-- name: get_secret_source^
-- What the account's secret is derived from; nulls until it was shown.
select notice_salt as salt, notice_key_id as key_id from accounts where id = :account_id;

-- name: store_secret_source!
-- Let the account's secret be derived from this from now on, where it was not shown yet or is renewed.
update accounts set notice_salt = :salt, notice_key_id = :signing_key
where id = :account_id and (notice_key_id is null or :renewed::boolean);

-- name: list_secret_sources
-- The accounts whose secret was shown, and by which key it is derived.
select name, notice_key_id as key_id from accounts where notice_key_id is not null order by name;

-- name: has_due$
-- Whether a notice waits to be delivered.
select exists (
    select from completion_notices
    where delivered_at is null and abandoned_at is null and due_at <= now()
);

-- name: claim_due^
-- Take the notice that has been due for longest, but for those of the accounts :busy, count the
-- attempt, and keep it from others for as long as one may take. Of a claimer that is killed it is
-- due again after that time.
with next as materialized (
    select n.job_id, j.account_id
    from completion_notices n join jobs j on j.id = n.job_id
    where n.delivered_at is null and n.abandoned_at is null and n.due_at <= now()
      and j.account_id <> all (:busy::bigint[])
    order by n.due_at
    limit 1
    for no key update of n skip locked
)
update completion_notices n
set attempts = n.attempts + 1,
    due_at = clock_timestamp() + make_interval(secs => :lease_seconds::float8)
from next
where n.job_id = next.job_id
returning n.job_id, next.account_id, n.url, n.attempts as attempt;

-- name: mark_delivered!
-- Note that the receiver has taken the notice, be it late, after others had given it up.
update completion_notices
set delivered_at = clock_timestamp(), abandoned_at = null, error = null
where job_id = :job_id and delivered_at is null;

-- name: mark_failed!
-- Note why the attempt failed, and when to try again; nothing where a later attempt is under way, or
-- an earlier one was taken after all.
update completion_notices
set error = :error, due_at = clock_timestamp() + make_interval(secs => :delay_seconds::float8)
where job_id = :job_id and attempts = :attempt and delivered_at is null;

-- name: mark_abandoned!
-- Note that the notice is given up, and why; nothing where a later attempt is under way, or an
-- earlier one was taken after all.
update completion_notices set error = :error, abandoned_at = clock_timestamp()
where job_id = :job_id and attempts = :attempt and delivered_at is null;

-- name: get_delivery^
-- How far the telling of a job's end is.
select attempts, delivered_at, abandoned_at, error
from completion_notices where job_id = :job_id;

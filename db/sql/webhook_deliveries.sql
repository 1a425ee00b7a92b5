-- Completion webhooks: the URL that is to be told how a job ended. A delivery is due from the moment at
-- which its job ends (the trigger `state_is_recorded`), and again after each attempt that failed. What is due
-- is compared with now(), which an index can be searched by, as it cannot by clock_timestamp().

-- name: insert_delivery!
-- Keep the URL that a job's end is to be told at.
insert into webhook_deliveries (account_id, job_id, url) values (:account_id, :job_id, :url);

-- name: get_secret_source^
-- What the account's secret is derived from; nulls until it was shown.
select webhook_salt as salt, webhook_key_id as key_id from accounts where id = :account_id;

-- name: store_secret_source!
-- Let the account's secret be derived from this from now on, where it was not shown yet or is renewed.
update accounts set webhook_salt = :salt, webhook_key_id = :signing_key
where id = :account_id and (webhook_key_id is null or :renewed::boolean);

-- name: list_secret_sources
-- The accounts whose secret was shown, and by which key it is derived.
select name, webhook_key_id as key_id from accounts where webhook_key_id is not null order by name;

-- name: has_due$
-- Whether a webhook of any account waits to be delivered.
select exists (
    select from webhook_deliveries
    where delivered_at is null and abandoned_at is null and due_at <= now()
);

-- name: list_due
-- The jobs whose webhooks have been due for longest, but for those of the accounts :busy.
select account_id, job_id
from webhook_deliveries
where delivered_at is null and abandoned_at is null and due_at <= now()
  and account_id <> all (:busy::bigint[])
order by due_at
limit :limit;

-- name: claim_due^
-- Take the delivery of a job that is due, unless another process has it, count the attempt, and keep it from
-- others for as long as one may take. Of a claimer that is killed it is due again after that time.
with due as materialized (
    select job_id
    from webhook_deliveries
    where account_id = :account_id and job_id = :job_id
      and delivered_at is null and abandoned_at is null and due_at <= now()
    for no key update skip locked
)
update webhook_deliveries d
set attempts = d.attempts + 1,
    due_at = clock_timestamp() + make_interval(secs => :lease_seconds::float8)
from due
where d.account_id = :account_id and d.job_id = due.job_id
returning d.url, d.attempts;

-- name: mark_delivered!
-- Note that the receiver has taken it, be it late, after others had given it up.
update webhook_deliveries
set delivered_at = clock_timestamp(), abandoned_at = null, error = null
where account_id = :account_id and job_id = :job_id and delivered_at is null;

-- name: mark_failed!
-- Note why the attempt failed, and when to try again; nothing where a later attempt is under way, or
-- an earlier one was taken after all.
update webhook_deliveries
set error = :error, due_at = clock_timestamp() + make_interval(secs => :delay_seconds::float8)
where account_id = :account_id and job_id = :job_id and attempts = :attempt and delivered_at is null;

-- name: mark_abandoned!
-- Note that it is given up, and why; nothing where a later attempt is under way, or an
-- earlier one was taken after all.
update webhook_deliveries set error = :error, abandoned_at = clock_timestamp()
where account_id = :account_id and job_id = :job_id and attempts = :attempt and delivered_at is null;

-- name: get_delivery^
-- How far the telling of a job's end is.
select attempts, delivered_at, abandoned_at, error
from webhook_deliveries where account_id = :account_id and job_id = :job_id;

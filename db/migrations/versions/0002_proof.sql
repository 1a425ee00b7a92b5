-- What it takes to prove what happened: a job's states with their times, and sums of its chunks.

-- When a job came to each of its states. Written by the database, so that nobody can forget it.
create table job_states (
    job_id bigint not null references jobs,
    state job_state not null,
    entered_at timestamptz not null default clock_timestamp(),
    primary key (job_id, entered_at, state)
);

create function note_state() returns trigger language plpgsql as $$
begin
    insert into job_states (job_id, state) values (new.id, new.state);
    return null;
end $$;
create trigger state_is_noted_at_first after insert on jobs for each row execute function note_state();
create trigger state_is_noted after update of state on jobs for each row
    when (old.state is distinct from new.state) execute function note_state();

-- What is known of the jobs that were there before.
insert into job_states (job_id, state, entered_at)
select id, 'planning'::job_state, created_at from jobs
union all
select id, 'running'::job_state, planned_at from jobs where planned_at is not null and state <> 'planning'
union all
select id, state, finished_at from jobs where finished_at is not null
union all
select id, state, clock_timestamp() from jobs where state = 'paused';

-- What the done chunks of a job come to, exact at every moment: always one row.
create function job_sums(of_job bigint) returns table (
    pairs bigint, applied bigint, unchanged bigint, rejected bigint, empty bigint, propagated bigint
) language sql stable as $$
    select coalesce(sum(c.pairs), 0), coalesce(sum(c.applied), 0), coalesce(sum(c.unchanged), 0),
           coalesce(sum(c.rejected), 0), coalesce(sum(c.empty), 0), coalesce(sum(c.propagated), 0)
    from job_chunks c
    where c.job_id = of_job and c.state = 'done'
$$;

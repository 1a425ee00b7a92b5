-- How long chunks took of late. An opt-out that is applied when it is received stores its chunk after
-- the job's end, is no work of workers, and pays nothing for this index.
-- By itself, since it reads all chunks: nothing else is locked meanwhile, and chunks can be read. What
-- writes one waits until the index is there. `concurrently` would have to be outside of a transaction,
-- where one migration cannot keep another one waiting.
create index job_chunks_recent on job_chunks (finished_at)
    where state = 'done' and duration_ms is not null and runnable_at < finished_at;

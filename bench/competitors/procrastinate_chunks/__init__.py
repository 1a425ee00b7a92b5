"""procrastinate, whose queue is also in Postgres, with chunks as hand-written SQL."""

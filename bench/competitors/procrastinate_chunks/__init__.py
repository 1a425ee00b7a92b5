"""procrastinate, whose queue is in Postgres too, with chunks as hand-written SQL."""

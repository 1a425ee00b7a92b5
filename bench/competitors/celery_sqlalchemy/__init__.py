"""Celery on Redis with SQLAlchemy on psycopg: the stack that most would choose first."""

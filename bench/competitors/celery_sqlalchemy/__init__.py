"""Celery on Redis with SQLAlchemy on psycopg: the stack of most projects."""

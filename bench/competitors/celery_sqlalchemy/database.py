"""Connections of a process: one engine, and sessions on it."""

from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import sessionmaker

from bench.competitors.place import place

engine = create_engine(make_url(place().database_url).set(drivername="postgresql+psycopg"))
Session = sessionmaker(engine)

"""Sluice's tables as SQLAlchemy maps them, with the columns that the work needs."""

from datetime import datetime
from typing import ClassVar

from sqlalchemy import BigInteger, DateTime, ForeignKeyConstraint
from sqlalchemy.dialects.postgresql import ENUM
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from bench.competitors.rules import STATUSES

EmailStatus = ENUM(*STATUSES, name="email_status", create_type=False)
Outcome = ENUM("applied", "unchanged", "rejected", name="result_outcome", create_type=False)
Cause = ENUM("direct", "propagated", name="result_cause", create_type=False)


class Base(DeclarativeBase):
    """All tables."""

    type_annotation_map: ClassVar = {int: BigInteger, datetime: DateTime(timezone=True)}


class Contact(Base):
    """One person, with up to three addresses."""

    __tablename__ = "contacts"
    account_id: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True)
    links: Mapped[list["Link"]] = relationship(back_populates="contact", order_by="Link.field")


class Address(Base):
    """An email address within an account."""

    __tablename__ = "email_addresses"
    account_id: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(EmailStatus)
    previous_status: Mapped[str | None] = mapped_column(EmailStatus)
    propagated_from: Mapped[int | None]
    status_job_id: Mapped[int | None]
    status_changed_at: Mapped[datetime]
    contact_count: Mapped[int]
    links: Mapped[list["Link"]] = relationship(back_populates="address", overlaps="links")


class Link(Base):
    """A contact's address in a field."""

    __tablename__ = "contact_emails"
    __table_args__ = (
        ForeignKeyConstraint(["account_id", "contact_id"], ["contacts.account_id", "contacts.id"]),
        ForeignKeyConstraint(
            ["account_id", "address_id"], ["email_addresses.account_id", "email_addresses.id"]
        ),
    )
    account_id: Mapped[int] = mapped_column(primary_key=True)
    contact_id: Mapped[int] = mapped_column(primary_key=True)
    field: Mapped[int] = mapped_column(primary_key=True)
    address_id: Mapped[int]
    contact: Mapped[Contact] = relationship(back_populates="links", overlaps="links")
    address: Mapped[Address] = relationship(back_populates="links", overlaps="contact,links")


class Result(Base):
    """The outcome for one address of one contact; the columns of the unique index are the key."""

    __tablename__ = "results"
    account_id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(primary_key=True)
    contact_id: Mapped[int]
    field: Mapped[int] = mapped_column(primary_key=True)
    cause: Mapped[str] = mapped_column(Cause, primary_key=True)
    chunk_no: Mapped[int]
    address_id: Mapped[int]
    source_address_id: Mapped[int | None]
    decided_at: Mapped[datetime]
    outcome: Mapped[str] = mapped_column(Outcome)
    from_status: Mapped[str] = mapped_column(EmailStatus)
    to_status: Mapped[str | None] = mapped_column(EmailStatus)
    reason: Mapped[str | None]

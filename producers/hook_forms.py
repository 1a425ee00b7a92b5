"""The form that an automation posts for an opt-out: Keap's "send an http post", for one."""

from db.hooks import Hook
from producers.field_names import Meaning
from producers.hook_fields import HookPost, kept_text
from producers.recipient_acts import day_key, event_key, request_of
from schemas.requests import JobRequest

_MAX_CONTACT = 40


def request_of_form(hook: Hook, form: HookPost, correlation_id: str) -> JobRequest:
    """Return the opt-out that the form is."""
    contact = form.texts.get(Meaning.CONTACT_ID)
    note = contact and f"contact {kept_text(contact)[:_MAX_CONTACT]} of {hook.source}"
    if form.event_id is not None:
        key = event_key("hook", hook.id, "form", event_id=form.event_id)
    else:
        # The same form is one job a day: the sender posts again when it had no answer.
        key = day_key("hook", hook.id, "form", act=[*form.match_keys, note or ""], kind=form.kind)
    return request_of(
        account=hook.account,
        addresses=form.addresses,
        kind=form.kind,
        source=hook.source,
        key=key,
        requested_by=f"hook {hook.id} ({hook.source})",
        correlation_id=correlation_id,
        note=note,
    )

"""The evidence of permission that an opt-in needs, and the questions about missing parts.

The original dialog asks how the addresses were obtained, and asks further until it knows enough
(seed 000, step 5). Its support team asks for proof in the same words (seed 002). What the seeds are
is in `docs/glossary.md`.
"""

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from itertools import islice
from typing import Any

from pydantic import BaseModel, ConfigDict, HttpUrl, TypeAdapter, ValidationError

from schemas.errors import MissingEvidence, Prompt


class Source(StrEnum):
    """How the addresses were obtained."""

    WEB_FORM = "web_form"
    LANDING_PAGE = "landing_page"
    EVENT = "event"
    PAPER_FORM = "paper_form"
    CUSTOMER_RELATIONSHIP = "customer_relationship"
    PREVIOUS_PROVIDER = "previous_provider"
    VERBAL = "verbal"
    OTHER = "other"
    PURCHASED_LIST = "purchased_list"


class Evidence(BaseModel):
    """Who collected permission, when, how, and what people were told. Never changed once stored."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    source: Source
    description: str
    collected_from: date
    collected_until: date
    attested_by: str
    url: HttpUrl | None = None
    notice_text: str | None = None
    provider: str | None = None
    last_emailed_on: date | None = None
    occasion: str | None = None
    proof_url: HttpUrl | None = None


MIN_DESCRIPTION_LENGTH = 20
MIN_DESCRIPTION_LENGTH_OTHER = 100
MAX_TEXT_LENGTH = 10_000
MAX_UNKNOWN_FIELDS = 20
"""The most unknown fields that one error names."""

_REQUIRED_QUESTIONS = {
    "source": "How were these addresses obtained? One of: "
    + ", ".join(source.value for source in Source if source is not Source.PURCHASED_LIST)
    + ".",
    "description": f"Describe in {MIN_DESCRIPTION_LENGTH} characters or more how permission was"
    " given.",
    "collected_from": "On which day did the collection of permission begin? (YYYY-MM-DD)",
    "collected_until": "On which day did the collection of permission end? (YYYY-MM-DD)",
    "attested_by": "Who attests this? Give a name or an address of a person.",
}

_FOLLOW_UP_QUESTIONS = {
    Source.WEB_FORM: {
        "url": "Where is the form? Give its http or https address.",
        "notice_text": "What were people told when they signed up? Quote the text.",
    },
    Source.LANDING_PAGE: {
        "url": "Where is the page? Give its http or https address.",
        "notice_text": "What were people told when they signed up? Quote the text.",
    },
    Source.EVENT: {"occasion": "At which event, where and when, was permission given?"},
    Source.PAPER_FORM: {"occasion": "On which occasion was the paper form filled in?"},
    Source.PREVIOUS_PROVIDER: {
        "provider": "Which provider sent email to this list before?",
        "last_emailed_on": "When was the last email sent to this list? (YYYY-MM-DD)",
    },
    Source.OTHER: {
        "description": f"Describe in {MIN_DESCRIPTION_LENGTH_OTHER} characters or more how"
        " permission was given.",
        "proof_url": "Where can the proof be seen? Give its http or https address.",
    },
}

_DATES = ("collected_from", "collected_until", "last_emailed_on")
_URLS = ("url", "proof_url")
_DATE = TypeAdapter(date)
_URL = TypeAdapter(HttpUrl)


def require_evidence(given: Mapping[str, Any] | None, *, today: date) -> Evidence:
    """Validate the evidence and return it.

    Raises MissingEvidence with one prompt for each part that is missing, thin, malformed, dated
    after `today`, or from a purchased list. So a person can correct everything in one pass.
    """
    answers = {
        name: value.strip() if isinstance(value, str) else value
        for name, value in (given or {}).items()
    }
    prompts = _prompts(answers, today)
    if prompts:
        raise MissingEvidence(prompts)
    return Evidence.model_validate(answers)


def _prompts(answers: Mapping[str, Any], today: date) -> list[Prompt]:
    source = answers.get("source")
    if source == Source.PURCHASED_LIST:
        why = "Nobody on a purchased list gave permission, so it can never be opted in."
        return [Prompt("source", why)]
    known_source = Source(source) if source in list(Source) else None
    follow_ups = _FOLLOW_UP_QUESTIONS.get(known_source, {}) if known_source else {}
    prompts = [
        Prompt(name, question)
        for name, question in (_REQUIRED_QUESTIONS | follow_ups).items()
        if not _is_answered(name, answers.get(name), known_source)
    ]
    asked = {prompt.field for prompt in prompts}
    unknown = (name for name in answers if name not in Evidence.model_fields)
    prompts += [
        Prompt(name, f"Unknown field. Valid fields: {', '.join(Evidence.model_fields)}.")
        for name in islice(unknown, MAX_UNKNOWN_FIELDS)
    ]
    prompts += [p for p in _malformed(answers) if p.field not in asked]
    malformed = {prompt.field for prompt in prompts}
    prompts += [p for p in _misdated(answers, today) if p.field not in malformed]
    return prompts


def _is_answered(name: str, value: Any, source: Source | None) -> bool:
    if value is None or value == "":
        return False
    if name == "source":
        return source is not None
    if name == "description":
        minimum = MIN_DESCRIPTION_LENGTH_OTHER if source is Source.OTHER else MIN_DESCRIPTION_LENGTH
        return isinstance(value, str) and len(value) >= minimum
    return True


def _malformed(answers: Mapping[str, Any]) -> list[Prompt]:
    """Return prompts for answers to known questions that are not a date, an address or text."""
    prompts = []
    for name in Evidence.model_fields:
        value = answers.get(name)
        if value is None or name == "source":
            continue
        if name in _DATES:
            if not _valid(_DATE, value):
                prompts.append(Prompt(name, "Give a day as YYYY-MM-DD."))
        elif name in _URLS:
            if not _valid(_URL, value):
                prompts.append(Prompt(name, "Give a full http or https address."))
        elif not isinstance(value, str) or len(value) > MAX_TEXT_LENGTH or "\x00" in value:
            prompts.append(Prompt(name, f"Give text of at most {MAX_TEXT_LENGTH} characters."))
    return prompts


def _misdated(answers: Mapping[str, Any], today: date) -> list[Prompt]:
    days = {
        name: _DATE.validate_python(answers[name])
        for name in _DATES
        if answers.get(name) is not None and _valid(_DATE, answers[name])
    }
    prompts = [
        Prompt(name, f"{day} is in the future. Give a day up to {today}.")
        for name, day in days.items()
        if day > today
    ]
    first, last = days.get("collected_from"), days.get("collected_until")
    if first and last and first > last:
        prompts.append(Prompt("collected_until", f"{last} is before collected_from, {first}."))
    return prompts


def _valid(adapter: TypeAdapter[Any], value: Any) -> bool:
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return not isinstance(value, int | float)

"""Jobs over lists that come as a file: `multipart/form-data`, with the job in a part of its own."""

import errno
import io
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, BinaryIO, NamedTuple

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import FormData, MutableHeaders, UploadFile
from starlette.types import Message

from producers.fair_executor import run_off_loop
from producers.invalid_request import convert_validation_error, shorten
from producers.keys import Caller
from producers.uploads import AddressUpload, ContactUpload, Upload
from runtime import events, logs
from schemas.requests import UPLOADED
from web.form_parser import get_charset
from web.job_requests import JobCreate
from web.middleware.body_limit import get_content_length
from web.problems import (
    BODY_TOO_LARGE,
    INSUFFICIENT_STORAGE,
    INVALID,
    MALFORMED,
    TOO_MANY_REQUESTS,
    Problem,
)
from web.rate_limit import TooManyUploads
from web.request_body import body_schema, is_large, load_json
from web.request_checks import find_unstorable
from web.state import AppState

log = logs.get_logger()

FORM_MEDIA_TYPE = "multipart/form-data"
_JOB_PART = "job"
_BYTE_CHARSET = "latin-1"
"""The charset that has a character for each byte."""

MAX_JOB_PART_BYTES = 1_000_000
"""As much as the part with the job may have, which is read into memory."""

_MAX_CONTENT_TYPE = 1_000
"""In characters. The reader of a longer one takes time by the square of its length."""

RETRY_SECONDS = 10
"""When to come again where a key uploads as much as it may."""

_DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}

LIST_PARTS: dict[str, Callable[[BinaryIO, str], Upload]] = {
    each.name: each for each in (ContactUpload, AddressUpload)
}
"""The parts that may have a list in place of one in the job's selection."""


class UploadedJob(NamedTuple):
    """A job, and the list that came with it."""

    body: JobCreate
    upload: Upload


def upload_form_schema() -> dict[str, Any]:
    """Describe the form for the OpenAPI document."""
    return {
        "type": "object",
        "required": [_JOB_PART],
        "properties": {
            _JOB_PART: body_schema(JobCreate)
            | {"description": "As it is sent by itself, without the list in its selection."},
            "contacts": {
                "type": "string",
                "format": "binary",
                "description": "Ids of contacts, as many as there are: one a line or separated by"
                " commas; or CSV with a column `contact_id` or `id`; or NDJSON, each line a number"
                " or an object with the id as `contact_id` or `id`. The part's Content-Type may"
                " name a charset; UTF-8 and UTF-16 are recognized.",
            },
            "addresses": {
                "type": "string",
                "format": "binary",
                "description": "In place of contacts: email addresses, as many as there are, one a"
                " line or several; or CSV with columns called `email`, `address`, `Email Address 2`"
                " or alike, of which no other column counts; or NDJSON, each line an object with"
                " such names. What is no address, or is not meant as it is written, is left out,"
                " and listed by the job's refusals.",
            },
        },
    }


@asynccontextmanager
async def read_uploaded_job(
    request: Request, state: AppState, caller: Caller
) -> AsyncIterator[UploadedJob]:
    """Yield the job of a form with its list, which is a file on disk until the context ends.

    Raises Problem, and InvalidRequest with a line for each error. Each key has a limit of
    concurrent files and bytes; an upload counts until the context ends.
    """
    with (
        _hold_upload(state, caller, get_content_length(request.scope) or 0) as count_bytes,
        _catch_disk_full(caller) as spooling,
    ):
        # Both parts may come as files. What is no file is kept in memory.
        form = await _as_latin_1(request, count_bytes).form(
            max_files=2, max_fields=2, max_part_size=MAX_JOB_PART_BYTES
        )
        spooling.clear()
        try:
            parts = _check_parts(form)
            (name,) = parts.keys() - {_JOB_PART}
            text = _read_job_part(parts[_JOB_PART])
            body = await run_off_loop(
                caller.account, lambda: _parse_job(text, name), is_long=is_large(text)
            )
            yield UploadedJob(
                body, LIST_PARTS[name](_part_file(parts[name]), _part_charset(parts[name]))
            )
        finally:
            await form.close()


@contextmanager
def _hold_upload(state: AppState, caller: Caller, declared: int) -> Iterator[Callable[[int], None]]:
    limit = state.upload_limiter
    try:
        with limit.hold(caller.key_id, declared) as count_bytes:
            yield count_bytes
    except TooManyUploads:
        raise Problem(
            TOO_MANY_REQUESTS,
            f"This key may upload {limit.max_files} files and {limit.max_bytes:,} bytes at a time."
            " Nothing was stored. Send this file again when another has been answered.",
            headers={"Retry-After": str(RETRY_SECONDS)},
        ) from None


@contextmanager
def _catch_disk_full(caller: Caller) -> Iterator[set[str]]:
    """Raise Problem where the disk is full while the file comes: until what is yielded is empty."""
    spooling = {"file"}
    try:
        yield spooling
    except OSError as error:
        if not spooling or error.errno not in _DISK_FULL_ERRNOS:
            raise
        name = errno.errorcode[error.errno]
        log.error(events.UPLOAD_FAILED, key=caller.key_id, account=caller.account_id, error=name)
        raise Problem(
            INSUFFICIENT_STORAGE,
            "The file does not fit on the disk of the web process. Nothing was stored. Try again"
            " later, or send it in parts, each as a job of its own.",
            headers={"Retry-After": str(RETRY_SECONDS)},
        ) from error


def _as_latin_1(request: Request, count_bytes: Callable[[int], None]) -> Request:
    """Return the same request, which decodes each byte of a text part as one character.

    Its bytes are counted as they arrive. Starlette decodes by the charset that the form names, and
    falls back to Latin-1, which would hide that a part was not UTF-8.
    """
    scope = {**request.scope, "headers": list(request.scope["headers"])}
    headers = MutableHeaders(scope=scope)
    if len(headers["content-type"]) > _MAX_CONTENT_TYPE:
        raise _invalid_content_type()
    headers["content-type"] = f"{headers['content-type']}; charset={_BYTE_CHARSET}"

    async def receive() -> Message:
        message = await request.receive()
        count_bytes(len(message.get("body", b"")))
        return message

    return Request(scope, receive)


def _check_parts(form: FormData) -> Mapping[str, UploadFile | str]:
    names = [name for name, _ in form.multi_items()]
    unknown = sorted(set(names) - {_JOB_PART, *LIST_PARTS})
    if unknown:
        raise _invalid_form(f"there is no part {shorten(repr(unknown[0]))}")
    if len(names) != len(set(names)):
        raise _invalid_form("a part is there twice")
    if _JOB_PART not in names or len(names) != len({_JOB_PART, "list"}):
        raise _invalid_form("a part is missing")
    return dict(form.multi_items())


def _invalid_form(what: str) -> Problem:
    return Problem(
        INVALID,
        f"The form was refused and nothing was stored: {what}. It has the part `{_JOB_PART}`,"
        " in JSON,"
        f" and a list in a file as the part {' or '.join(f'`{name}`' for name in LIST_PARTS)}.",
    )


def _read_job_part(part: UploadFile | str) -> bytes:
    """Return the job's part as bytes; raises Problem."""
    if not isinstance(part, str) and (part.size or 0) > MAX_JOB_PART_BYTES:
        raise Problem(
            BODY_TOO_LARGE,
            f"The part `{_JOB_PART}` has more than {MAX_JOB_PART_BYTES:,} bytes; nothing was"
            " stored. What"
            " is long goes into the list.",
        )
    return _part_file(part).read()


def _part_file(part: UploadFile | str) -> BinaryIO:
    if not isinstance(part, str):
        return part.file
    try:
        return io.BytesIO(part.encode(_BYTE_CHARSET))
    except UnicodeEncodeError:
        # Of a form whose type is too odd to name a charset in it, some characters are no bytes.
        raise _invalid_content_type() from None


def _invalid_content_type() -> Problem:
    return Problem(
        MALFORMED,
        "The form's Content-Type cannot be read; nothing was stored. Send it as"
        f" `{FORM_MEDIA_TYPE}; boundary=...`.",
    )


def _part_charset(part: UploadFile | str) -> str:
    """Return the charset that a file declares; a part that is not a file cannot declare one."""
    if isinstance(part, str):
        return "utf-8"
    return get_charset(part.headers.get("content-type", "")) or "utf-8"


def _parse_job(text: bytes, name: str) -> JobCreate:
    """Parse the job, which must list nothing itself; the part `name` has its list."""
    given = load_json(text, f"The part `{_JOB_PART}`")
    if why := find_unstorable(given):
        raise Problem(MALFORMED, f"The part `{_JOB_PART}` has {why}; nothing was stored.")
    if isinstance(given, dict):
        selection = given.setdefault("selection", {})
        if isinstance(selection, dict):
            if name in selection:
                raise _invalid_form(f"its selection lists {name} as well")
            selection[name] = []
    try:
        return JobCreate.model_validate(given, context={UPLOADED: name})
    except ValidationError as error:
        raise convert_validation_error(f"The part `{_JOB_PART}`", error, JobCreate) from None

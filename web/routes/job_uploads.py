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

from producers.fair_executor import off_loop
from producers.invalid_request import shortened, wrong_input
from producers.keys import Caller
from producers.uploads import AddressUpload, ContactUpload, Upload
from runtime import events, logs
from schemas.requests import UPLOADED
from web.form_parser import charset_of
from web.job_requests import JobBody
from web.middleware.body_limit import declared_bytes
from web.problems import (
    INVALID,
    MALFORMED,
    NO_ROOM,
    TOO_LARGE,
    TOO_MANY_REQUESTS,
    Problem,
)
from web.rate_limit import TooManyUploads
from web.request_body import body_schema, is_large, json_value
from web.request_checks import why_odd
from web.state import Here

log = logs.get()

FORM = "multipart/form-data"
_JOB = "job"
_BYTES = "latin-1"
"""The charset that has a character for each byte."""

MOST_JOB_BYTES = 1_000_000
"""As much as the part with the job may have, which is read into memory."""

_LONGEST_TYPE = 1_000
"""In characters. The reader of a longer one takes time by the square of its length."""

RETRY_SECONDS = 10
"""When to come again where a key uploads as much as it may."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}

LISTS: dict[str, Callable[[BinaryIO, str], Upload]] = {
    each.name: each for each in (ContactUpload, AddressUpload)
}
"""The parts that may have a list in place of one in the job's selection."""


class UploadedJob(NamedTuple):
    """A job, and the list that came with it."""

    body: JobBody
    upload: Upload


def form_schema() -> dict[str, Any]:
    """The form, for the OpenAPI document."""
    return {
        "type": "object",
        "required": [_JOB],
        "properties": {
            _JOB: body_schema(JobBody)
            | {"description": "As it is sent by itself, without the list in its selection."},
            "contacts": {
                "type": "string",
                "format": "binary",
                "description": "Ids of contacts, as many as there are: one a line or separated by"
                " commas; or CSV with a column `contact_id` or `id`; or NDJSON, each line a number"
                " or an object with the id as `contact_id` or `id`. The part's Content-Type may"
                " name a charset; UTF-8 and UTF-16 are recognised.",
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
async def uploaded_job(request: Request, here: Here, caller: Caller) -> AsyncIterator[UploadedJob]:
    """The job of a form and its list, which is in a file on disk until the context ends.

    Raises Problem, and WrongInput with a line for each mistake. Each key has a limit of files and
    bytes at a time; what it uploads counts until the context ends.
    """
    with (
        _among_uploads(here, caller, declared_bytes(request.scope) or 0) as came,
        _if_there_is_room(caller) as spooling,
    ):
        # Both parts may come as files. What is no file is kept in memory.
        form = await _byte_for_byte(request, came).form(
            max_files=2, max_fields=2, max_part_size=MOST_JOB_BYTES
        )
        spooling.clear()
        try:
            parts = _parts(form)
            (name,) = parts.keys() - {_JOB}
            text = _bytes(parts[_JOB])
            body = await off_loop(caller.account, lambda: _body(text, name), where=is_large(text))
            yield UploadedJob(body, LISTS[name](_file(parts[name]), _charset(parts[name])))
        finally:
            await form.close()


@contextmanager
def _among_uploads(here: Here, caller: Caller, declared: int) -> Iterator[Callable[[int], None]]:
    limit = here.uploads
    try:
        with limit.one_of(caller.key_id, declared) as came:
            yield came
    except TooManyUploads:
        raise Problem(
            TOO_MANY_REQUESTS,
            f"This key may upload {limit.max_files} files and {limit.max_bytes:,} bytes at a time."
            " Nothing was stored. Send this file again when another has been answered.",
            headers={"Retry-After": str(RETRY_SECONDS)},
        ) from None


@contextmanager
def _if_there_is_room(caller: Caller) -> Iterator[set[str]]:
    """Raise Problem where the disk is full while the file comes: until what is yielded is empty."""
    spooling = {"file"}
    try:
        yield spooling
    except OSError as error:
        if not spooling or error.errno not in _NO_ROOM:
            raise
        name = errno.errorcode[error.errno]
        log.error(events.UPLOAD_FAILED, key=caller.key_id, account=caller.account_id, error=name)
        raise Problem(
            NO_ROOM,
            "The file does not fit on the disk of the web process. Nothing was stored. Try again"
            " later, or send it in parts, each as a job of its own.",
            headers={"Retry-After": str(RETRY_SECONDS)},
        ) from error


def _byte_for_byte(request: Request, came: Callable[[int], None]) -> Request:
    """The same request, of whose form each byte of what is no file is read as one character, and
    whose bytes are counted as they come.

    Starlette reads it in any charset that the form names, and in Latin-1 what does not fit: nobody
    would see any more that it was not UTF-8.
    """
    scope = {**request.scope, "headers": list(request.scope["headers"])}
    headers = MutableHeaders(scope=scope)
    if len(headers["content-type"]) > _LONGEST_TYPE:
        raise _odd_type()
    headers["content-type"] = f"{headers['content-type']}; charset={_BYTES}"

    async def receive() -> Message:
        message = await request.receive()
        came(len(message.get("body", b"")))
        return message

    return Request(scope, receive)


def _parts(form: FormData) -> Mapping[str, UploadFile | str]:
    names = [name for name, _ in form.multi_items()]
    unknown = sorted(set(names) - {_JOB, *LISTS})
    if unknown:
        raise _wrong(f"there is no part {shortened(repr(unknown[0]))}")
    if len(names) != len(set(names)):
        raise _wrong("a part is there twice")
    if _JOB not in names or len(names) != len({_JOB, "list"}):
        raise _wrong("a part is missing")
    return dict(form.multi_items())


def _wrong(what: str) -> Problem:
    return Problem(
        INVALID,
        f"The form was refused and nothing was stored: {what}. It has the part `{_JOB}`, in JSON,"
        f" and a list in a file as the part {' or '.join(f'`{name}`' for name in LISTS)}.",
    )


def _bytes(part: UploadFile | str) -> bytes:
    """The job as it came; raises Problem."""
    if not isinstance(part, str) and (part.size or 0) > MOST_JOB_BYTES:
        raise Problem(
            TOO_LARGE,
            f"The part `{_JOB}` has more than {MOST_JOB_BYTES:,} bytes; nothing was stored. What"
            " is long goes into the list.",
        )
    return _file(part).read()


def _file(part: UploadFile | str) -> BinaryIO:
    if not isinstance(part, str):
        return part.file
    try:
        return io.BytesIO(part.encode(_BYTES))
    except UnicodeEncodeError:
        # Of a form whose type is too odd to name a charset in it, some characters are no bytes.
        raise _odd_type() from None


def _odd_type() -> Problem:
    return Problem(
        MALFORMED,
        "The form's Content-Type cannot be read; nothing was stored. Send it as"
        f" `{FORM}; boundary=...`.",
    )


def _charset(part: UploadFile | str) -> str:
    """The charset in which a file says that it is; what is no file cannot say it."""
    if isinstance(part, str):
        return "utf-8"
    return charset_of(part.headers.get("content-type", "")) or "utf-8"


def _body(text: bytes, name: str) -> JobBody:
    """The job as one that lists nothing itself; what it lists is in the part `name`."""
    given = json_value(text, f"The part `{_JOB}`")
    if why := why_odd(given):
        raise Problem(MALFORMED, f"The part `{_JOB}` has {why}; nothing was stored.")
    if isinstance(given, dict):
        selection = given.setdefault("selection", {})
        if isinstance(selection, dict):
            if name in selection:
                raise _wrong(f"its selection lists {name} as well")
            selection[name] = []
    try:
        return JobBody.model_validate(given, context={UPLOADED: name})
    except ValidationError as error:
        raise wrong_input(f"The part `{_JOB}`", error, JobBody) from None

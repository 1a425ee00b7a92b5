"""Jobs with a list in a file: `multipart/form-data`, with the job in a part of its own."""

import errno
import io
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request
from starlette.datastructures import FormData, MutableHeaders, UploadFile
from starlette.exceptions import HTTPException
from starlette.types import Message

from producers.fair_executor import run_off_loop
from producers.invalid_request import shorten
from producers.keys import Caller
from producers.uploads import UPLOAD_TYPES, Upload
from runtime import events, logs
from schemas.requests import UPLOADED
from web import problems
from web.form_parser import get_charset
from web.job_requests import JobCreate
from web.middleware.body_limit import FORM_MEDIA_TYPE, get_content_length
from web.problems import Problem
from web.rate_limit import UPLOAD_RETRY_SECONDS
from web.request_body import body_schema, is_large, load_json, validate
from web.state import AppState

log = logs.get_logger()

_JOB_PART = "job"
_BYTE_CHARSET = "latin-1"
"""A charset with a character for each byte."""

MAX_JOB_PART_BYTES = 1_000_000
"""The maximum size of the part with the job, which is read into memory."""

_MAX_CONTENT_TYPE = 1_000
"""In characters. Parsing takes time in proportion to the square of its length."""

_MAX_PARTS = 2
"""The job and its list."""

_DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}

_LIST_PARTS = " or ".join(f"`{name}`" for name in UPLOAD_TYPES)
"""The parts that may have a list, which replaces that of the job's selection."""


def upload_form_schema() -> dict[str, Any]:
    """Return the schema of the form for the OpenAPI document."""
    return {
        "type": "object",
        "required": [_JOB_PART],
        "properties": {
            _JOB_PART: body_schema(JobCreate)
            | {"description": "The job as JSON, without the list in its selection."},
            "contacts": {
                "type": "string",
                "format": "binary",
                "description": "Any number of contact ids: one per line or separated by commas; or"
                " CSV with a column `contact_id` or `id`; or NDJSON, each line a number or an"
                " object with `contact_id` or `id`. The part's Content-Type may name a charset;"
                " UTF-8 and UTF-16 are recognized.",
            },
            "addresses": {
                "type": "string",
                "format": "binary",
                "description": "Instead of contacts, any number of email addresses: one or more per"
                " line; or CSV with columns such as `email`, `address` or `Email Address 2`, whose"
                " other columns are ignored; or NDJSON, each line an object with such names."
                " Invalid and mistyped addresses are left out; the job's import rejections list"
                " them.",
            },
        },
    }


@asynccontextmanager
async def read_uploaded_job(
    request: Request, state: AppState, caller: Caller
) -> AsyncIterator[tuple[JobCreate, Upload]]:
    """Read the job of a form and its list, which stays in a file on disk within the context.

    Raise Problem, or InvalidRequest with a line for each error. The file counts for the upload
    limits of the key within the context.
    """
    declared = get_content_length(request.scope) or 0
    with state.upload_limiter.hold(caller.key_id, declared) as count_bytes:
        form = await _read_form(_as_latin_1(request, count_bytes), caller)
        try:
            parts = _check_parts(form)
            (name,) = parts.keys() - {_JOB_PART}
            job = _as_file(parts[_JOB_PART])
            if (job.size or 0) > MAX_JOB_PART_BYTES:
                raise _part_too_large(f"The part `{_JOB_PART}`")
            text = job.file.read()
            body = await run_off_loop(
                caller.account, lambda: _parse_job(text, name), is_long=is_large(text)
            )
            listed = _as_file(parts[name])
            charset = get_charset(listed.headers.get("content-type", "")) or "utf-8"
            yield body, UPLOAD_TYPES[name](listed.file, charset)
        finally:
            await form.close()


async def _read_form(request: Request, caller: Caller) -> FormData:
    """Return the form, with its files on disk; raise Problem if the disk is full."""
    try:
        # Both parts may come as files. A part that is no file is kept in memory.
        return await request.form(
            max_files=_MAX_PARTS, max_fields=_MAX_PARTS, max_part_size=MAX_JOB_PART_BYTES
        )
    except HTTPException as error:
        raise _to_form_problem(error) from None
    except OSError as error:
        if error.errno not in _DISK_FULL_ERRNOS:
            raise
        name = errno.errorcode[error.errno]
        log.error(events.UPLOAD_FAILED, key=caller.key_id, account=caller.account_id, error=name)
        raise Problem(
            problems.INSUFFICIENT_STORAGE,
            "The file does not fit on the disk of the web process. Nothing was stored. Try again"
            " later, or send it in parts, each as a job of its own.",
            headers={"Retry-After": str(UPLOAD_RETRY_SECONDS)},
        ) from error


def _to_form_problem(error: HTTPException) -> Exception:
    """Return the problem for an error of Starlette's parser, whose kinds differ only in text."""
    told = error.detail
    if told.startswith("Part exceeded maximum size"):
        return _part_too_large(f"The part `{_JOB_PART}`, or a list that is not sent as a file,")
    if told.startswith("Too many f"):
        return _invalid_form(f"it has more than {_MAX_PARTS} parts")
    if told.startswith("The Content-Disposition"):
        return _invalid_form("a part has no name")
    if told.startswith("Missing boundary"):
        return _invalid_content_type()
    return error


def _as_latin_1(request: Request, count_bytes: Callable[[int], None]) -> Request:
    """Return the request with each byte of a form field read as one character, and count bytes.

    Starlette decodes fields by any charset that the form names, and falls back to Latin-1, which
    would hide that a field is not UTF-8.
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
    unknown = sorted(set(names) - {_JOB_PART, *UPLOAD_TYPES})
    if unknown:
        raise _invalid_form(f"unknown part {shorten(repr(unknown[0]))}")
    if len(names) != len(set(names)):
        raise _invalid_form("a part is repeated")
    if _JOB_PART not in names:
        raise _invalid_form(f"the part `{_JOB_PART}` is missing")
    if len(names) < _MAX_PARTS:
        raise _invalid_form(f"the part {_LIST_PARTS} is missing")
    if len(names) > _MAX_PARTS:
        raise _invalid_form("it has two lists, and a job takes one")
    return dict(form.multi_items())


def _invalid_form(what: str) -> Problem:
    return Problem(
        problems.INVALID,
        f"The form was rejected and nothing was stored: {what}. Send the part `{_JOB_PART}` in"
        f" JSON, and a list in a file as the part {_LIST_PARTS}.",
    )


def _part_too_large(what: str) -> Problem:
    return Problem(
        problems.BODY_TOO_LARGE,
        f"{what} has more than {MAX_JOB_PART_BYTES:,} bytes. Nothing was stored. Send a long list"
        " as a file.",
    )


def _as_file(part: UploadFile | str) -> UploadFile:
    """Return the part; one that is no file becomes one, which names no charset."""
    if not isinstance(part, str):
        return part
    try:
        return UploadFile(io.BytesIO(part.encode(_BYTE_CHARSET)))
    except UnicodeEncodeError:
        # The charset in an odd Content-Type was ignored.
        raise _invalid_content_type() from None


def _invalid_content_type() -> Problem:
    return Problem(
        problems.MALFORMED,
        "The form's Content-Type cannot be read. Nothing was stored. Send it as"
        f" `{FORM_MEDIA_TYPE}; boundary=...`.",
    )


def _parse_job(text: bytes, name: str) -> JobCreate:
    """Return the job with an empty list, which stands for the one in the part `name`."""
    given = load_json(text, f"The part `{_JOB_PART}`")
    if isinstance(given, dict):
        selection = given.setdefault("selection", {})
        if isinstance(selection, dict):
            if name in selection:
                raise _invalid_form(f"its selection lists {name} as well")
            selection[name] = []
    return validate(given, JobCreate, f"The part `{_JOB_PART}`", context={UPLOADED: name})

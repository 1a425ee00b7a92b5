"""Bodies that an HTML form, or a mail client, sends."""

from fastapi import HTTPException, Request

from producers.http.problems import MALFORMED, Problem

MEDIA_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")
MOST_FIELDS = 200


def is_form(request: Request) -> bool:
    """Whether the body says that it is a form."""
    given = request.headers.get("content-type", "")
    return given.partition(";")[0].strip().lower() in MEDIA_TYPES


async def read_form(request: Request) -> list[tuple[str, str]]:
    """The fields in their order; one may come more than once. Raises Problem for what is none."""
    try:
        async with request.form(max_files=0, max_fields=MOST_FIELDS) as form:
            return [(name, str(value)) for name, value in form.multi_items()]
    except HTTPException:
        raise Problem(
            MALFORMED,
            f"The body is no form of at most {MOST_FIELDS} fields without files; nothing was"
            " stored.",
        ) from None

"""The pages that a recipient sees in a browser: no script, no cookie, nothing external."""

from http import HTTPStatus

from fastapi.responses import HTMLResponse

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self';"
        " frame-ancestors 'none'; base-uri 'none'"
    ),
    # The path contains the token, which must not leak to other sites.
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
}

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ max-width: 34rem; margin: 3rem auto; padding: 0 1rem; font: 1.125rem/1.5 sans-serif;
  color: #1a1a1a; background: #fff }}
button {{ padding: .6rem 1.2rem; font: inherit; color: #fff; background: #1a4fa0; border: 0;
  border-radius: .3rem }}
button:focus-visible {{ outline: 3px solid #1a1a1a; outline-offset: 2px }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
{content}
</main>
</body>
</html>
"""

_CONFIRMATION = """<p>With this button you get no more mail of this kind at your address, nor at
other addresses of yours that the sender knows.</p>
<form method="post">
<input type="hidden" name="confirm" value="yes">
<button type="submit">Unsubscribe</button>
</form>
"""


def confirmation_page() -> HTMLResponse:
    """Build the page that asks whether to unsubscribe; its form posts to the same URL."""
    return _page(HTTPStatus.OK, "Unsubscribe?", _CONFIRMATION)


def done_page(*, is_applied: bool) -> HTMLResponse:
    """Build the page after an opt-out, which is applied, or stored and about to be applied."""
    nothing_else = "You do not need to do anything else."
    if is_applied:
        return _page(HTTPStatus.OK, "You are unsubscribed", f"<p>{nothing_else}</p>")
    pending = "We have received your request. It will take effect shortly."
    return _page(HTTPStatus.OK, "You are being unsubscribed", f"<p>{pending} {nothing_else}</p>")


def invalid_link_page(status: int = HTTPStatus.NOT_FOUND) -> HTMLResponse:
    """Build the page for a link that is invalid, or was cut off."""
    return _page(
        status,
        "This link does not work",
        "<p>It may have been cut off. Open it from the mail itself, or answer the mail and ask to"
        " be taken off the list.</p>",
    )


def retry_page() -> HTMLResponse:
    """Build the page for an opt-out that failed and may succeed soon."""
    return _page(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Please try again",
        "<p>We could not unsubscribe you right now. Please try again in a minute.</p>",
    )


def unexpected_request_page(status: int) -> HTMLResponse:
    """Build the page for a request that the button of the page does not send."""
    return _page(
        status,
        "Nothing was changed",
        "<p>Open the link from the mail again, and use the button on the page.</p>",
    )


def _page(status: int, title: str, content: str) -> HTMLResponse:
    return HTMLResponse(
        _PAGE.format(title=title, content=content), status_code=int(status), headers=PAGE_HEADERS
    )

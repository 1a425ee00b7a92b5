"""The few pages that a recipient sees in a browser: no script, no cookie, nothing from outside."""

from http import HTTPStatus

from fastapi.responses import HTMLResponse

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self';"
        " frame-ancestors 'none'; base-uri 'none'"
    ),
    # The path is what allows to unsubscribe, and goes to nobody else.
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
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

_CONFIRMATION = """<p>If you press this button, you get no more mail of this kind at your address,
nor at other addresses of yours that the sender knows.</p>
<form method="post">
<input type="hidden" name="confirm" value="yes">
<button type="submit">Unsubscribe</button>
</form>"""


def confirmation_page() -> HTMLResponse:
    """Ask whether to unsubscribe; the answer is posted to the same URL."""
    return _page(HTTPStatus.OK, "Unsubscribe?", _CONFIRMATION)


def unsubscribed_page() -> HTMLResponse:
    """Show that the opt-out has been applied."""
    return _page(
        HTTPStatus.OK, "You are unsubscribed", "<p>You do not need to do anything else.</p>"
    )


def pending_page() -> HTMLResponse:
    """Show that the opt-out is stored and will be applied shortly."""
    return _page(
        HTTPStatus.OK,
        "You are being unsubscribed",
        "<p>We have received your request. It will take effect shortly. You do not need to do"
        " anything else.</p>",
    )


def invalid_link_page(status: HTTPStatus = HTTPStatus.NOT_FOUND) -> HTMLResponse:
    """Show that the link was not made here, or was cut off in transit."""
    return _page(
        status,
        "This link does not work",
        "<p>It may have been cut off. Follow it from the mail itself, or answer the mail and ask to"
        " be taken off the list.</p>",
    )


def retry_page() -> HTMLResponse:
    """Show that the opt-out cannot be stored at the moment."""
    return _page(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Please try again",
        "<p>You could not be unsubscribed at this moment. Try it again in a minute.</p>",
    )


def unexpected_request_page(status: HTTPStatus) -> HTMLResponse:
    """Show that the body is not what the page's button posts."""
    return _page(
        status,
        "Nothing was changed",
        "<p>Open the link from the mail once more, and use the button on the page.</p>",
    )


def _page(status: HTTPStatus, title: str, content: str) -> HTMLResponse:
    return HTMLResponse(
        _PAGE.format(title=title, content=content), status_code=int(status), headers=PAGE_HEADERS
    )

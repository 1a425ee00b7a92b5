"""One-click links, for the header and the footer of a mail (RFC 8058).

```
List-Unsubscribe: <https://sluice.example/v1/unsubscribe/3fa9c1d2.1.77.Gk...>
List-Unsubscribe-Post: List-Unsubscribe=One-Click
```
"""

from runtime.settings import Settings
from runtime.signing import one_click_token

PATH = "/v1/unsubscribe"


def one_click_url(
    settings: Settings, request_base_url: str, account_id: int, address_id: int
) -> str:
    """Return the signed link of an address, which does not contain the address.

    It begins with PUBLIC_URL, or else with the URL of the request. Raises SettingsError without
    SIGNING_KEYS.
    """
    base = settings.public_url or request_base_url.rstrip("/")
    return f"{base}{PATH}/{one_click_token(settings, account_id, address_id)}"

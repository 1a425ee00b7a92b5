"""A contact CSV for the import: as many rows as wanted, two addresses each, no address twice."""

import random
from pathlib import Path

_GIVEN = (
    *("Ada", "Amir", "Bea", "Carlos", "Chidi", "Dana", "Elif", "Farid", "Greta", "Hana", "Igor"),
    *("Jana", "Kofi", "Lena", "Mateo", "Nadia", "Omar", "Priya", "Quinn", "Rosa", "Sven", "Tala"),
)
_FAMILY = (
    *("Adeyemi", "Becker", "Castro", "Dimitrov", "Eriksen", "Fischer", "Garcia", "Haddad"),
    *("Ito", "Jensen", "Kowalski", "Lindqvist", "Moreau", "Nguyen", "Okafor", "Papadopoulos"),
)
_DOMAINS = ("example.com", "example.net", "example.org", "mail.example", "post.example")
_HEADER = "First Name,Last Name,Company,Email,Email Address 2\r\n"


def write_contacts(path: Path, contacts: int, *, seed: int) -> int:
    """Write the file; gives its size in bytes. The same seed gives the same file.

    Addresses begin with a random part, so that they come in no order, as in a real list.
    """
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(_HEADER)
        file.writelines(_row(draw, n) for n in range(contacts))
    return path.stat().st_size


def _row(draw: random.Random, n: int) -> str:
    given, family = draw.choice(_GIVEN), draw.choice(_FAMILY)
    name = f"{given}.{family}".lower()
    scatter = draw.randrange(16**4)
    first = f"{scatter:04x}.{name}.{n}@{draw.choice(_DOMAINS)}"
    second = f"{name}.{scatter:04x}.{n}@work.example"
    return f"{given},{family},Company {n % 1000},{first},{second}\r\n"

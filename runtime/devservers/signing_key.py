"""The signing key of a machine that was given none: drawn once, and stored with its servers."""

import os
import secrets
from pathlib import Path

from pydantic import SecretStr

_FILE = "signing_key"


def load_or_create_signing_key(directory: Path) -> SecretStr:
    """Return the directory's key, and draw one if there is none. Two concurrent callers get the
    same.
    """
    path = directory / _FILE
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = directory / f"{_FILE}.{os.getpid()}"
    if not path.exists():
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secrets.token_hex(32))
        try:
            # Atomic, and never replaces an existing key.
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return SecretStr(path.read_text(encoding="utf-8"))

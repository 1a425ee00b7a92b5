"""The only reader of the environment."""

import os
import re
import sys
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.errors import SettingsError
from schemas.field_errors import describe_error

MIN_KEY_CHARACTERS = 32
"""The least length of each of SIGNING_KEYS."""
LogFormat = Literal["json", "logfmt", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]

_PLATFORM_COMMIT_VARIABLES = ("heroku_build_commit", "heroku_slug_commit", "source_version")
"""The variables in which platforms give the deployed commit."""

_SCHEMES = {
    "database_url": ("postgresql", "postgres"),
    "owner_database_url": ("postgresql", "postgres"),
    "redis_url": ("redis", "rediss", "unix"),
    "public_url": ("https", "http"),
}

_is_plain_commit = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch


class Settings(BaseSettings):
    """Every setting, with its default. `.env.example` has a sentence on each.

    Making one reads the environment, in which the names are in upper case and an empty value is
    no value. Raises SettingsError, which names what is wrong and never quotes a value.
    """

    model_config = SettingsConfigDict(
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        env_ignore_empty=True,
        allow_inf_nan=False,
    )

    database_url: str | None = None
    owner_database_url: str | None = None
    redis_url: str | None = None
    port: int = Field(8000, ge=1, le=65_535)
    host: str | None = None
    public_url: str | None = None
    signing_keys: SecretStr | None = None
    trusted_proxies: int | None = Field(None, ge=0, le=10)
    dyno: str | None = None
    commit: str | None = Field(
        None, validation_alias=AliasChoices("commit", *_PLATFORM_COMMIT_VARIABLES)
    )
    log_format: LogFormat | None = None
    log_level: LogLevel = "info"
    worker_processes: int = Field(2, ge=1, le=64)
    worker_threads: int = Field(2, ge=1, le=64)
    chunks_per_process: int = Field(1, ge=1, le=64)
    chunk_size: int = Field(2500, ge=1, le=20_000)
    role_address_limit: int = Field(10, ge=1)
    job_concurrency: int = Field(8, ge=1, le=256)
    queue_namespace: str = Field("sluice", pattern=r"^[A-Za-z0-9_.-]{1,100}$")
    slice_seconds: float = Field(1.0, gt=0)
    sweep_seconds: float = Field(2.0, gt=0)
    stalled_after_seconds: float = Field(5.0, gt=0)
    queue_stats_seconds: float = Field(10.0, gt=0)
    unattended_seconds: float = Field(60.0, gt=0)
    target_delay_seconds: float = Field(120.0, gt=0)
    max_workers: int = Field(4, ge=1, le=1_000)
    retry_seconds: float = Field(1.0, gt=0)
    watchdog_seconds: float = Field(60.0, gt=0)
    startup_timeout_seconds: float = Field(120.0, ge=0)
    pool_size: int | None = Field(None, ge=1)
    pgbouncer: bool = False
    web_processes: int = Field(1, ge=1, le=64)
    web_pool_size: int = Field(5, ge=2)
    max_body_bytes: int = Field(4_000_000, ge=1_000)
    max_upload_bytes: int = Field(2_000_000_000, ge=1_000)
    header_timeout_seconds: float = Field(15.0, gt=0)
    slow_client_seconds: float = Field(30.0, gt=0)
    max_connections: int | None = Field(None, ge=1)
    max_connections_per_peer: int | None = Field(None, ge=1)
    requests_per_second: float = Field(1_000.0, gt=0)
    max_concurrent_streams: int = Field(20, ge=1)
    max_concurrent_uploads: int = Field(4, ge=1)
    max_concurrent_upload_bytes: int = Field(4_000_000_000, ge=1_000)
    max_auth_failures_per_minute: int = Field(30, ge=1)
    hirefire_token: SecretStr | None = Field(None, min_length=16)
    allow_private_webhooks: bool = False

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(_explanation(error)) from None

    @field_validator(*_SCHEMES)
    @classmethod
    def _check_url(cls, url: str | None, info: ValidationInfo) -> str | None:
        schemes = _SCHEMES[info.field_name or ""]
        if url is not None and url.partition("://")[0] not in schemes:
            raise ValueError(f"it must begin with {' or '.join(f'{name}://' for name in schemes)}")
        try:
            # A list of hosts has several ports, which `urlsplit` cannot read.
            _ = url is not None and "," not in url and urlsplit(url).port
        except ValueError:
            raise ValueError(
                "it is not a URL; in a password, percent-encode characters such as / # ? @ and :"
            ) from None
        return url

    @field_validator("commit")
    @classmethod
    def _drop_odd_commit(cls, commit: str | None) -> str | None:
        # A platform sets it, so an odd value must not keep a process from starting.
        return commit if commit and _is_plain_commit(commit) else None

    @field_validator("public_url")
    @classmethod
    def _strip_slashes(cls, url: str | None) -> str | None:
        return url and url.rstrip("/")

    @field_validator("signing_keys")
    @classmethod
    def _check_signing_keys(cls, keys: SecretStr | None) -> SecretStr | None:
        found = split_signing_keys(keys.get_secret_value()) if keys else []
        if any(len(key) < MIN_KEY_CHARACTERS for key in found):
            raise ValueError(
                f"each key needs {MIN_KEY_CHARACTERS} characters or more; separate keys by commas"
                " or blanks"
            )
        return keys if found else None

    @property
    def proxy_count(self) -> int:
        """The number of proxies that name the peer; by default one on a dyno, its router."""
        return int(bool(self.dyno)) if self.trusted_proxies is None else self.trusted_proxies

    @property
    def listen_host(self) -> str:
        """The interface of a web process; by default all on a dyno, otherwise loopback."""
        return self.host or ("0.0.0.0" if self.dyno else "127.0.0.1")  # noqa: S104 - a dyno's router

    @property
    def uses_embedded_servers(self) -> bool:
        """True without a URL, except on a dyno, where embedded servers would lose their data."""
        return not (self.database_url or self.redis_url or self.dyno)

    @property
    def migration_database_url(self) -> str | None:
        """The URL with the role that owns the tables."""
        return self.owner_database_url or self.database_url

    def require_urls(self) -> None:
        """Raise SettingsError unless both URLs are set."""
        urls = {"DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url}
        missing = [name for name, url in urls.items() if not url]
        if not missing:
            return
        if len(missing) == 1:
            raise SettingsError(
                f"{missing[0]} is not set, and the other URL is. Nothing was started. Set both to"
                " use your own servers, or neither to use embedded ones."
            )
        where = "on a dyno (DYNO is set) " if self.dyno else ""
        raise SettingsError(
            f"DATABASE_URL and REDIS_URL are not set. Nothing was started. A process {where}needs"
            " a Postgres and a Redis: attach them, or set both URLs. On your own machine,"
            " `sluice up` starts embedded servers and hands their URLs on."
        )

    def require_signing_keys(self) -> None:
        """Raise SettingsError unless there is a key to derive secrets from."""
        if self.signing_keys is None:
            raise SettingsError(
                "SIGNING_KEYS is not set. Nothing was started. Set it to 32 random characters or"
                " more, as `openssl rand -hex 32` makes them, and keep them: secrets of hooks and"
                " links in sent mail are derived from them."
            )


def split_signing_keys(text: str) -> list[str]:
    """Return the keys of SIGNING_KEYS in their order, each once."""
    return list(dict.fromkeys(text.replace(",", " ").split()))


def _explanation(error: ValidationError) -> str:
    mistakes = "".join(
        f"\n  {'.'.join(map(str, mistake['loc'])).upper()}:"
        f" {describe_error(mistake, quoting=False)}"
        for mistake in error.errors(include_url=False, include_input=False)
    )
    return (
        f"The environment has invalid settings. Nothing was started.{mistakes}"
        "\nCorrect them, or unset them to use the defaults. .env.example explains each setting."
    )


def log_settings() -> Settings:
    """Return settings with the log format and level of the environment, and other defaults.

    With them, a process whose other settings are wrong reports that in the chosen format.
    """
    given = {name.lower(): value for name, value in os.environ.items()}
    log_format, log_level = given.get("log_format"), given.get("log_level")
    return Settings.model_construct(
        log_format=next((each for each in get_args(LogFormat) if each == log_format), None),
        log_level=next((each for each in get_args(LogLevel) if each == log_level), "info"),
    )


def child_environment(settings: Settings, **more: str) -> dict[str, str]:
    """Return the environment for child processes that use the same servers and keys, plus `more`.

    This interpreter's programs come first in its PATH, so that `python` means this Python.
    """
    assert settings.database_url is not None
    assert settings.redis_url is not None
    if settings.signing_keys is not None:
        more = {"SIGNING_KEYS": settings.signing_keys.get_secret_value(), **more}
    return dict(os.environ) | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        **more,
    }

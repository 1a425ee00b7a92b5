"""The only reader of the environment."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Every setting, with its default. `.env.example` has a sentence on each."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    database_url: str | None = None
    redis_url: str | None = None
    port: int = 8000
    dyno: str | None = None
    log_format: Literal["json", "logfmt", "console"] | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    worker_processes: int = Field(2, ge=1, le=64)
    worker_threads: int = Field(2, ge=1, le=64)
    chunk_size: int = Field(2500, ge=1, le=20_000)
    shared_address_limit: int = Field(10, ge=1)
    job_lanes: int = Field(8, ge=1, le=256)
    queue_namespace: str = "sluice"
    slice_seconds: float = Field(1.0, gt=0)
    sweep_seconds: float = Field(2.0, gt=0)
    silence_seconds: float = Field(5.0, gt=0)
    measure_seconds: float = Field(10.0, gt=0)
    pool_size: int | None = None
    pgbouncer: bool = False

    def require_urls(self) -> None:
        """Raise SettingsError unless both URLs are set."""

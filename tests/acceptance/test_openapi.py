"""The service does what its OpenAPI document says, whatever it is asked.

Schemathesis reads the document, asks for everything in it, with data that fits and data that does
not, follows what answers lead to, and compares each answer with what is promised.
"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from db.pool import open_pool
from producers.hooks import create_hook
from producers.keys import Scope, create_key
from producers.one_click import PATH, one_click_url
from producers.submit import submit
from runtime.settings import Settings
from schemas.requests import JobRequest, Selection
from tests.kit.factories import fill
from tests.kit.property_examples import example_count
from tests.kit.web_process import WebGroup

SEED = 7
EXAMPLES = example_count(20)
"""How often each operation is asked in each way."""

NO_FAULTS = "positive_data_acceptance"
"""This check is left out: what fits the schema may still be refused, an opt-in without evidence for
instance."""

ENDLESS = "follow_job"
"""This operation is left out: its answer ends with the job, and nobody works here."""

CONFIG = """
[parameters]
# Nobody works here, so that whoever waits for a job waits in vain.
"header.prefer" = "wait=0"

[[operations]]
include-path = "/v1/hooks/form/{{token}}"
parameters = {{ token = "{hook}" }}

[[operations]]
include-path = "/v1/hooks/{{hook_id}}/events"
parameters = {{ hook_id = 1 }}

[[operations]]
include-path = "{unsubscribe}/{{token}}"
parameters = {{ token = "{link}" }}
"""
"""What cannot be guessed."""


async def prepare(settings: Settings) -> tuple[str, str]:
    """A key that may do everything, in an account with contacts and jobs; and the configuration."""
    async with await open_pool(settings.database_url or "", size=2) as pool:
        contacts = {1: {1: "ann@example.org"}, 2: {1: "bob@example.org", 2: "ann@example.org"}}
        statuses = {f"{name}@example.org": ("single_opt_in", False) for name in ("ann", "bob")}
        await fill(pool, 1, contacts, statuses)
        for number in range(3):
            request = JobRequest(
                action="opt_out",
                selection=Selection(contacts=(number,)),
                requested_by="test",
            )
            await submit(pool, settings, request)
        key = await create_key(pool, account="default", name="test", scopes=list(Scope))
        hook = await create_hook(pool, settings, account="default", source="test")
        address_id = await pool.fetchval("select min(id) from email_addresses")
        link = one_click_url(settings, "", 1, address_id)
    return key.token, CONFIG.format(
        hook=hook.form_path.rpartition("/")[2], unsubscribe=PATH, link=link.rpartition("/")[2]
    )


def test_everything_that_is_documented_holds(settings: Settings, tmp_path: Path):
    """No failure of the service's, no answer that is not documented, and none of another shape."""
    token, config = asyncio.run(prepare(settings))
    (tmp_path / "schemathesis.toml").write_text(config)
    # It tries each call with wrong keys too, and wants to be told so each time.
    limits = {"UNATTENDED_SECONDS": "3600", "MAX_AUTH_FAILURES_PER_MINUTE": "1000000"}
    with WebGroup(settings, tmp_path / "web.log", **limits) as web:
        asked = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run"),
                f"{web.serving().url}/openapi.json",
                *("--header", f"Authorization: Bearer {token}"),
                *("--seed", str(SEED), "--max-examples", str(EXAMPLES)),
                *("--exclude-checks", NO_FAULTS, "--exclude-operation-id", ENDLESS),
                *("--generation-database", "none", "--warnings", "off", "--no-color"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert asked.returncode == 0, asked.stdout + asked.stderr
        events = web.events()
    assert not [json.dumps(event) for event in events if event["level"] == "error"]
    # That it was asked at all, and came through to what the routes do.
    answered = [event for event in events if event["event"] == "request.answered"]
    assert len({event["route"] for event in answered if event["http_status"] in {200, 202}}) > 8

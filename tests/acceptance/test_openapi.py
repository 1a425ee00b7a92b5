"""The service behaves as its OpenAPI document says, for any request.

Schemathesis reads the document and tries every operation with valid and invalid data. It follows
the links in answers, and compares each answer with the document.
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
from tests.acceptance.conftest import StartWeb
from tests.kit.factories import fill
from tests.kit.property_examples import example_count

SEED = 7
EXAMPLES = example_count(20)
"""How often each operation is tried in each way."""

EXCLUDED_CHECK = "positive_data_acceptance"
"""This check is left out: a request may fit the schema and still be invalid, for example an opt-in
without evidence.
"""

EXCLUDED_OPERATION = "follow_job"
"""This operation is left out: its answer ends with the job, and there are no workers in this test.
"""

CONFIG = """
[parameters]
# There are no workers, so a request must not wait for its job.
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
"""What Schemathesis cannot guess."""


async def prepare(settings: Settings) -> tuple[str, str]:
    """Fill an account with contacts and jobs; return an API key with all scopes, and the
    configuration.
    """
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
    return key.secret, CONFIG.format(
        hook=hook.form_path.rpartition("/")[2], unsubscribe=PATH, link=link.rpartition("/")[2]
    )


def test_everything_that_is_documented_holds(
    settings: Settings, start_web: StartWeb, tmp_path: Path
):
    """No request causes a server error, an undocumented answer or one of another shape."""
    token, config = asyncio.run(prepare(settings))
    (tmp_path / "schemathesis.toml").write_text(config)
    # Schemathesis tries each operation with wrong keys too, and expects a 401 each time.
    limits = {"UNATTENDED_SECONDS": "3600", "MAX_AUTH_FAILURES_PER_MINUTE": "1000000"}
    with start_web(settings, tmp_path / "web.log", **limits) as web:
        result = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run"),
                f"{web.serving().url}/openapi.json",
                *("--header", f"Authorization: Bearer {token}"),
                *("--seed", str(SEED), "--max-examples", str(EXAMPLES)),
                *("--exclude-checks", EXCLUDED_CHECK, "--exclude-operation-id", EXCLUDED_OPERATION),
                *("--generation-database", "none", "--warnings", "off", "--no-color"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        events = web.events()
    assert not [json.dumps(event) for event in events if event["level"] == "error"]
    # Requests were made, and some of them reached what the routes do.
    answered = [event for event in events if event["event"] == "request.answered"]
    assert len({event["route"] for event in answered if event["http_status"] in {200, 202}}) > 8

"""Examples of requests and responses for the OpenAPI document, from `examples.json`."""

import json
from pathlib import Path
from typing import Any

_EXAMPLES = json.loads(Path(__file__).with_name("examples.json").read_text(encoding="utf-8"))


def get_examples(model: str) -> dict[str, Any]:
    """Return a model's `json_schema_extra` with its examples."""
    return {"examples": _EXAMPLES[model]}

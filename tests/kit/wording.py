"""What texts for people must not contain."""

import re

_OF_PYDANTIC = re.compile(
    r"Input should|Value error|value_error|Field required|[Ee]xtra inputs|after validation"
    r"|should (?:have|be|match)|Assertion failed|Unable to|unable to parse|\bitems\b|validat"
    r"|type=|input_value|pydantic|\b\w+\.\d+(?:\.|:)"
)


def find_wording_faults(text: str) -> list[str]:
    """Return pydantic's own words, field paths in program notation, and missing or double periods.

    Quotations from the request are skipped.
    """
    ours = re.sub(r"\(given: .*?\)(?=\.$)|`[^`\n]*`|'[^'\n]*'", "Q", text, flags=re.MULTILINE)
    found = _OF_PYDANTIC.findall(ours)
    found += re.findall(r"(?<!\.)\.\.(?!\.)", ours)
    *_, last = text.rstrip().split("\n")
    return found + ([] if last.endswith((".", "?", "!")) else [f"no full stop: {last[-40:]}"])

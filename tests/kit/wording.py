"""What no text that people read may have in it."""

import re

_OF_PYDANTIC = re.compile(
    r"Input should|Value error|value_error|Field required|[Ee]xtra inputs|after validation"
    r"|should (?:have|be|match)|Assertion failed|Unable to|unable to parse|\bitems\b|validat"
    r"|type=|input_value|pydantic|\b\w+\.\d+(?:\.|:)"
)


def find_wording_faults(text: str) -> list[str]:
    """Words that are not ours, places as programs have them, and stops that are two or none.

    What is quoted from the request is looked over.
    """
    ours = re.sub(r"\(given: .*?\)(?=\.$)|`[^`\n]*`|'[^'\n]*'", "Q", text, flags=re.MULTILINE)
    found = _OF_PYDANTIC.findall(ours)
    found += re.findall(r"(?<!\.)\.\.(?!\.)", ours)
    *_, last = text.rstrip().split("\n")
    return found + ([] if last.endswith((".", "?", "!")) else [f"no full stop: {last[-40:]}"])

"""`{name:any}` in the path of a route: the rest of the path, whatever it is.

Starlette's own `path` takes no line end, and one may follow a link in a mail.
"""

from starlette.convertors import Convertor, register_url_convertor


class _AnyConvertor(Convertor[str]):
    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


ANY_PATH = "any"
register_url_convertor(ANY_PATH, _AnyConvertor())

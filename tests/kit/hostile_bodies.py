"""`python -m tests.kit.hostile_bodies [WORD]`: measure a web process with bodies full of errors.

Each body gets a process of its own and is sent once alone and once eight times together. Measured
are the time of the last response, the peak growth of the process's memory, and the longest response
time of `/healthz` meanwhile. The bodies are sent with an ordinary key or hook. With WORD, only
bodies whose name contains it are sent.
"""

import asyncio
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

import httpx
import psutil
from pydantic import SecretStr

from db.migrate import migrate
from db.pool import open_pool
from producers.hooks import create_hook
from producers.keys import Scope, create_key
from runtime.settings import Settings
from tests.kit.servers import chaos_servers
from tests.kit.web_process import WebGroup

_SECONDS_BETWEEN = 0.02
_TOGETHER = (1, 8)
_FORM = "application/x-www-form-urlencoded"
_TEXT = "text/plain"
_PARTS = "multipart/form-data; boundary=b"


class Body(NamedTuple):
    """A body of about 4 MB, and the path that it is posted to."""

    name: str
    content: bytes
    path: str = "/v1/jobs"
    media_type: str = "application/json"


def _job(selection: str = '{"all": true}', more: str = "") -> bytes:
    return f'{{"action":"opt_out","selection":{selection}{more}}}'.encode()


def _listed(name: str, value: str, number: int) -> str:
    return f'{{"{name}":[{",".join([value] * number)}]}}'


def _names(number: int) -> str:
    return ",".join(f'"x{n:06}":1' for n in range(number))


def bodies(form: str) -> Iterator[Body]:
    """Yield bodies that took earlier versions seconds and gigabytes, and variants of them."""
    empty, few = '""', 299_000
    yield Body("statuses: 1,300,000 empty strings", _job(_listed("statuses", empty, 1_300_000)))
    yield Body("statuses: 299,000 empty strings", _job(_listed("statuses", empty, few)))
    numbers = ",".join(["1"] * 1_900_000)
    yield Body("fields: 1,900,000 numbers", _job(more=f',"fields":[{numbers}]'))
    yield Body("contacts: 1,300,000 empty strings", _job(_listed("contacts", empty, 1_300_000)))
    yield Body("contacts: 299,000 empty strings", _job(_listed("contacts", empty, few)))
    yield Body("330,000 unknown names", _job(more=f",{_names(330_000)}"))
    yield Body("290,000 unknown names", _job(more=f",{_names(290_000)}"))
    expected = f'{{"expected":{{{_names(330_000)}}}}}'.encode()
    yield Body("apply: 330,000 unknown names", expected, "/v1/jobs/1/apply")
    yield Body("290,000 names in params", _job(more=f',"params":{{{_names(290_000)}}}'))
    yield Body("299,000 lists in params", _job(more=f',"params":{{"a":[{"[]," * 149_000}[]]}}'))
    yield Body("140,000 objects", _job(f'{{"contacts":[{"{}," * 140_000}1]}}'))
    deep = f',"params":{"[" * 200_000}{"]" * 200_000}'
    yield Body("200,000 levels", _job(more=deep))
    yield Body("a number of 3,900,000 digits", _job(more=f',"params":{{"a":{"7" * 3_900_000}}}'))
    escapes = r"\u00e9" * 650_000
    yield Body("650,000 escapes", _job(more=f',"requested_by":"{escapes}"'))
    names = ",".join(rf'"{n:06}":"\u0000"' for n in range(900))
    long = "k" * 3_000_000
    yield Body("900 names below one of 3 MB", _job(more=f',"params":{{"{long}":{{{names}}}}}'))
    odd = ",".join(f'"ü{n}@ä{n}.example"' for n in range(60_000))
    yield Body("60,000 addresses beyond ASCII", _job(f'{{"addresses":[{odd}]}}'))
    odd = ",".join(f'"ü{n}@ä{n}.example"' for n in range(2_000))
    yield Body("2,000 addresses beyond ASCII (taken)", _job(f'{{"addresses":[{odd}]}}'))
    ids = ",".join(map(str, range(1, 100_001)))
    yield Body("100,000 ids (taken)", _job(f'{{"contacts":[{ids}]}}'))
    plain = ",".join(f'"a@{n:x}.ex.example"' for n in range(100_000))
    yield Body("100,000 addresses of as many domains (taken)", _job(f'{{"addresses":[{plain}]}}'))
    links = ",".join(f'"mailto:a{n}@x{n}.example?"' for n in range(100_000))
    yield Body("100,000 addresses as links (taken)", _job(f'{{"addresses":[{links}]}}'))
    doubtful = ",".join(f'"a|b#c=d{n}@example.com"' for n in range(100_000))
    yield Body("100,000 addresses in doubt", _job(f'{{"addresses":[{doubtful}]}}'))
    yield from _files()
    yield from _forms(form)


def _files() -> Iterator[Body]:
    """Yield address lists as files, each with one valid address, so that they are accepted."""
    good = b"a@b.example\n"
    yield _file("a line of 60,000 @", good + b"@" * 60_000)
    yield _file("lines of 9,900 @", (good + b"@" * 9_900 + b"\n") * 400)
    yield _file("lines of 9,900 @ with a header", b"email\n" + good + (b"@" * 9_900 + b"\n") * 400)
    yield _file("4,000 lines of 1,000 letters", good + (b"a" * 1_000 + b"\n") * 4_000)
    yield _file("4,000 lines of 1,000 @", good + (b"@" * 1_000 + b"\n") * 4_000)
    yield _file("4,000 broken quotation marks", good + (b'"' + b"a" * 980 + b'" b\n') * 4_000)
    names = {
        "email": [f"{n:x}" for n in range(30_000)],
        "address": [f"{n:x}." for n in range(30_000)],
    }
    listed = b'{"email":"a@b.example"}\n' + json.dumps(names, separators=(",", ":")).encode()
    yield _file("an object with 60,000 texts", listed)


def _file(name: str, content: bytes) -> Body:
    job = b'--b\r\nContent-Disposition: form-data; name="job"\r\n\r\n{"action":"opt_out"}\r\n'
    head = b'--b\r\nContent-Disposition: form-data; name="addresses"; filename="a.txt"\r\n\r\n'
    return Body(f"file: {name}", job + head + content + b"\r\n--b--\r\n", media_type=_PARTS)


def _forms(form: str) -> Iterator[Body]:
    """Yield bodies for a hook's form, which accepts any body."""
    pairs = "&".join(f"f{n}=x" for n in range(200_000)).encode()
    yield Body("form: 200,000 pairs", pairs, form, _FORM)
    events = [{"email": f"e{n}@many.example", "event": "unsubscribe"} for n in range(10_000)]
    yield Body("form: 10,000 events (taken)", json.dumps(events).encode(), form)
    odd = [{"email": f"a|e{n}@many.example", "event": "unsubscribe"} for n in range(9_900)]
    yield Body("form: 9,900 odd events (taken)", json.dumps(odd).encode(), form)
    for name, text in {"email": b"email=", "a list": b"email=[", "no name": b""}.items():
        for escape, number in {b"%2525": 790_000, b"%": 3_900_000, b"%a ": 1_300_000}.items():
            title = f"form: {number:,} of {escape.decode()} in {name}"
            yield Body(title, text + escape * number + b"]", form, _FORM)
    yield Body("form: a value of 3,900,000 commas", b"email=" + b"," * 3_900_000, form, _FORM)
    yield Body(
        "form: 3,900,000 plus signs", b"email=a%40b.example&" + b"+" * 3_900_000, form, _FORM
    )
    yield Body(
        "form: 1,300,000 blanks", b"email=a%40b.example&x=" + b"%20" * 1_300_000, form, _FORM
    )
    yield Body(
        "form: 9,999 emails without @", _fields(b"%2540" + b"x" * 380, b"email"), form, _FORM
    )
    yield Body("form: 970,000 of a@b.", b"email=" + b"a@b." * 970_000, form, _FORM)
    yield Body("form: 3,900,000 brackets", b"email=" + b"<" * 3_900_000, form, _FORM)
    yield Body("form: 9,999 fields of 390 bytes", _fields(b"x" * 380), form, _FORM)
    yield Body("form: 9,999 emails of 390 bytes", _fields(b"%2540" * 75, b"email"), form, _FORM)
    yield Body("form: 9,999 fields of JSON", _fields(b"[" + b"1," * 180 + b"1]"), form, _FORM)
    yield Body("form: 9,999 deep fields", _fields(b"[" * 190 + b"]" * 190), form, _FORM)
    deep = b'{"a":' * 60 + b"1" + b"}" * 60
    yield Body("form: 9,999 fields of 60 levels", _fields(deep), form, _FORM)
    yield Body("form: deep JSON", b"a=" + b"[" * 1_900_000 + b"]" * 1_900_000, form, _FORM)
    yield Body("form: 290,000 names in JSON", f"{{{_names(290_000)}}}".encode(), form)
    spread = f"{{{_names(200_000)}}}"
    for _ in range(30):
        spread = f'{{"a":{spread}}}'
    yield Body("form: 200,000 names at the 31st level", spread.encode(), form)
    objects = "[" + ",".join('{"a":1}' for _ in range(99_000)) + "]"
    for _ in range(20):
        objects = f'[{{"b":{objects}}},{{"c":1}}]'
    yield Body("form: lists of objects in each other", objects.encode(), form)
    entities = b"email=" + b"%26%2364%3B" * 350_000
    yield Body("form: 350,000 entities", entities, form, _FORM)
    yield from _texts_and_parts(form)


def _texts_and_parts(form: str) -> Iterator[Body]:
    """Yield plain texts and multipart bodies for a hook's form."""
    yield Body("text: 350,000 lines of an email", b"Email: a b\n" * 350_000, form, _TEXT)
    yield Body("text: 970,000 lines of a name", b"x:1\n" * 970_000, form, _TEXT)
    lines = "\n".join(f"a{n:06}: b" for n in range(350_000)).encode()
    yield Body("text: 350,000 names", lines, form, _TEXT)
    yield Body("text: 3,900,000 line ends", b"\n" * 3_900_000, form, _TEXT)
    yield Body("text: 3,900,000 colons", b":" * 3_900_000, form, _TEXT)
    part = b'--b\r\nContent-Disposition: form-data; name="email"\r\n\r\na b\r\n'
    yield Body("parts: 60,000 of an email", part * 60_000, form, _PARTS)
    yield Body("parts: 970,000 boundaries", b"\r\n--b" + b"\n--b" * 970_000, form, _PARTS)
    long = b"--b\r\n" + b"a" * 3_900_000 + b"\r\n\r\nb\r\n--b"
    yield Body("parts: a head of 3,900,000 bytes", long, form, _PARTS)
    long = b"--b\r\n" + b" " * 3_900_000 + b"\r\n\r\nb\r\n--b"
    yield Body("parts: a head of 3,900,000 blanks", long, form, _PARTS)
    yield Body("utf-16 lines", "\ufeffa:b\n".encode("utf-16-le") * 390_000, form, _TEXT)


def _fields(value: bytes, name: bytes = b"f") -> bytes:
    return b"&".join(name + str(n).encode() + b"=" + value for n in range(9_999))


class _Meanwhile(Thread):
    """Requests `/healthz` repeatedly until it is stopped."""

    def __init__(self, web: WebGroup) -> None:
        super().__init__()
        self._web = web
        self.over = Event()
        self.longest = 0.0

    def run(self) -> None:
        """See `Thread`."""
        with self._web.client() as client:
            while not self.over.wait(_SECONDS_BETWEEN):
                began = time.perf_counter()
                client.get("/healthz").raise_for_status()
                self.longest = max(self.longest, time.perf_counter() - began)


def _peak(web: WebGroup) -> int:
    """Return the peak memory of the process, in bytes."""
    status = Path(f"/proc/{web.process.pid}/status").read_text(encoding="utf-8")
    (kilobytes,) = re.findall(r"VmHWM:\s*(\d+)", status)
    return int(kilobytes) * 1024


async def _set_up(settings: Settings) -> tuple[dict[str, str], str]:
    """Return the headers of a request with a key, and the path of a form hook."""
    async with await open_pool(settings.database_url or "", size=1) as pool:
        key = await create_key(pool, account="default", name="bench", scopes=list(Scope))
        hook = await create_hook(pool, settings, account="default", source="bench")
    return {"Authorization": f"Bearer {key.secret}"}, hook.form_path


def measure(settings: Settings, log: Path, word: str = "") -> Iterator[str]:
    """Yield a table row for each body."""
    headers, form = asyncio.run(_set_up(settings))
    for body in bodies(form):
        if word in body.name:
            cells = [
                cell for number in _TOGETHER for cell in _sent(settings, log, body, headers, number)
            ]
            yield f"| {body.name} | {len(body.content) / 1e6:.1f} | {' | '.join(cells)} |"


def _sent(
    settings: Settings, log: Path, body: Body, headers: dict[str, str], number: int
) -> list[str]:
    """Send the body this many times at the same time, and return the measurements."""
    with WebGroup(settings, log) as web, web.serving().client(headers=headers) as client:
        client.get("/v1/jobs?limit=1")
        before = psutil.Process(web.process.pid).memory_info().rss

        def post(_: int) -> str:
            try:
                answer = client.post(
                    body.path, content=body.content, headers={"Content-Type": body.media_type}
                )
            except httpx.TransportError as error:
                return type(error).__name__
            return str(answer.status_code)

        meanwhile = _Meanwhile(web)
        meanwhile.start()
        began = time.perf_counter()
        with ThreadPoolExecutor(number) as posting:
            answers = sorted(set(posting.map(post, range(number))))
        seconds = time.perf_counter() - began
        meanwhile.over.set()
        meanwhile.join()
        grown = (_peak(web) - before) / 1e6
    longest = f"{meanwhile.longest * 1000:.0f}"
    return [" ".join(answers), f"{seconds:.2f}", f"{grown:.0f}", longest]


def _opened(folder: str) -> Path:
    """Yield the folder with access for the servers' own account."""
    Path(folder).chmod(0o711)
    return Path(folder)


def _show(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Measure with servers started for this run, and print the table."""
    columns = ["answer", "after s", "memory + MB", "`/healthz` ms at most"]
    eight = " | ".join(f"8: {each}" for each in columns)
    _show(f"| body | MB | {' | '.join(columns)} | {eight} |")
    _show("|---" * (2 + len(_TOGETHER) * len(columns)) + "|")
    with (
        tempfile.TemporaryDirectory() as folder,
        chaos_servers(_opened(folder) / "servers") as servers,
    ):
        asyncio.run(migrate(servers.database_url))
        settings = Settings(
            database_url=servers.database_url,
            redis_url=servers.redis_url,
            signing_keys=SecretStr("for-measurements-and-for-nothing-else"),
        )
        for row in measure(settings, Path(folder) / "web.log", *sys.argv[1:]):
            _show(row)


if __name__ == "__main__":
    main()

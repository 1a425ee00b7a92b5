"""The course of `make bench`: what is measured, in which parts, with how much of everything."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.contenders import (
    CELERY_BULK,
    CELERY_OBJECTS,
    ONE_STATEMENT,
    PROCRASTINATE,
    Contender,
    Peer,
    Sluice,
)
from bench.idle import at_rest
from bench.importing import imports
from bench.latency import beside
from bench.over_http import Amounts, over_http
from bench.progress import Steps
from bench.rounds import BOTH, OPT_IN, Jobs, Rounds
from bench.templates import Templates

EVERYONE: tuple[Contender, ...] = (
    ONE_STATEMENT,
    Sluice(1),
    Sluice(2),
    Sluice(4),
    PROCRASTINATE,
    CELERY_BULK,
    CELERY_OBJECTS,
)
BY_KEY = {contender.key: contender for contender in EVERYONE}
TITLES = {contender.key: contender.title for contender in EVERYONE}

_FAST = ("one_statement", "sluice_1", "sluice_2")
"""Who can be measured on the large list in the time there is."""

_BESIDE = ("one_statement", "sluice_2", "procrastinate_chunks", "celery_bulk")
"""Beside whose jobs recipients opt out."""

_BESIDE_AGAIN = "sluice_2"
"""Beside whose jobs they do so in several passes: a longest time is the one figure that a moment's
pause of the machine decides.
"""


class Sizes(NamedTuple):
    """How much to measure: contacts of the four lists, rounds, and what else is counted."""

    large: int = 1_000_000
    middle: int = 100_000
    bulk: int = 10_000
    objects: int = 2_000
    rounds: int = 5
    passes: int = 3
    import_rows: int = 100_000
    imports: int = 3
    small_jobs: int = 40
    web_opt_outs: int = 2_000
    listed: int = 100_000
    idle_seconds: float = 8.0

    @classmethod
    def quick(cls, contacts: int) -> "Sizes":
        """A quick look with lists of at most so many contacts."""
        return cls(
            large=contacts,
            middle=min(contacts, cls().middle),
            bulk=min(contacts, cls().bulk),
            objects=max(1, min(contacts // 10, cls().objects)),
            rounds=1,
            passes=1,
            import_rows=contacts,
            imports=1,
            small_jobs=10,
            web_opt_outs=300,
            listed=min(contacts, cls().listed),
            idle_seconds=3.0,
        )


class Group(NamedTuple):
    """Contenders that take turns on lists of one size."""

    name: str
    keys: Sequence[str]
    contacts: int
    jobs: Jobs


class Course(NamedTuple):
    """What is measured with whom; figures are given as they come, nothing is left out of them."""

    templates: Templates
    steps: Steps
    folder: Path
    sizes: Sizes
    only: Sequence[str]

    async def run(self) -> dict[str, Any]:
        """All parts, one after the other."""
        with self.steps.part("making the lists"):
            sizes = self.sizes
            for contacts in sorted({sizes.objects, sizes.bulk, sizes.middle, sizes.large}):
                await self.templates.of(contacts)
        return {
            "rounds": [await self._rounds(group) for group in self._groups()],
            "idle": await self._idle(),
            "beside": await self._beside(),
            "http": await self._over_http(),
            "import": await self._imports(),
        }

    def _groups(self) -> list[Group]:
        """Who is measured with whom, on which list, with which jobs.

        Celery is so slow that it has lists of its own, with Sluice beside it to see that both do
        the same, and the one statement to see what small lists cost; on the large one there is time
        for opt-ins.
        """
        sizes = self.sizes
        many = [key for key in BY_KEY if key not in {CELERY_BULK.key, CELERY_OBJECTS.key}]
        groups = [Group("middle", self._chosen(many), sizes.middle, BOTH)]
        if sizes.large > sizes.middle:
            groups.insert(0, Group("large", self._chosen(_FAST), sizes.large, OPT_IN))
        for name, keys, contacts in (
            ("bulk", ("one_statement", "sluice_2", CELERY_BULK.key), sizes.bulk),
            ("objects", ("sluice_2", CELERY_OBJECTS.key), sizes.objects),
        ):
            if keys[-1] in self.only:
                groups.append(Group(name, self._chosen(keys), contacts, BOTH))
        return [group for group in groups if group.keys]

    def _chosen(self, keys: Sequence[str]) -> list[str]:
        return [key for key in keys if key in self.only]

    async def _rounds(self, group: Group) -> dict[str, Any]:
        named = ", ".join(TITLES[key] for key in group.keys)
        with self.steps.part(f"{group.contacts:,} contacts: {named}"):
            runs = await Rounds(
                self.templates,
                self.steps,
                self.folder,
                [BY_KEY[key] for key in group.keys],
                group.contacts,
                self.sizes.rounds,
                group.jobs,
            ).run()
        return {"group": group.name, "contacts": group.contacts, "runs": runs}

    async def _idle(self) -> dict[str, Any] | None:
        fleet = BY_KEY["sluice_2"]
        if fleet.key not in self.only:
            return None
        with self.steps.part("at rest: single opt-outs, small jobs, Redis"):
            template = await self.templates.of(self.sizes.large)
            async with self.templates.copy(template) as copy:
                return await at_rest(
                    copy,
                    fleet,
                    self.folder,
                    seconds=self.sizes.idle_seconds,
                    small_jobs=self.sizes.small_jobs,
                )

    async def _beside(self) -> list[dict[str, Any]]:
        made = []
        with self.steps.part("single opt-outs while jobs run"):
            chosen = [BY_KEY[key] for key in self._chosen(_BESIDE)]
            again = [BY_KEY[key] for key in self._chosen([_BESIDE_AGAIN])]
            for contender in (*chosen, *again * (self.sizes.passes - 1)):
                template = await self.templates.of(self._list_beside(contender))
                with self.steps.step(f"opt-outs beside {contender.title}"):
                    async with self.templates.copy(template) as copy:
                        made.append(await beside(copy, contender, self.folder))
        return made

    def _list_beside(self, contender: Contender) -> int:
        """The slow ones have a smaller list: their jobs last as long with it."""
        if contender.key == CELERY_BULK.key:
            return self.sizes.bulk
        return self.sizes.middle if isinstance(contender, Peer) else self.sizes.large

    async def _over_http(self) -> dict[str, Any] | None:
        fleet = BY_KEY["sluice_2"]
        if fleet.key not in self.only:
            return None
        amounts = Amounts(
            opt_outs=self.sizes.web_opt_outs,
            seconds=self.sizes.idle_seconds,
            listed=self.sizes.listed,
            times=self.sizes.passes,
        )
        with self.steps.part("over HTTP: single opt-outs, plans, jobs, results"):
            template = await self.templates.of(self.sizes.large)
            async with self.templates.copy(template) as copy:
                return await over_http(copy, fleet, self.folder, amounts)

    async def _imports(self) -> dict[str, Any] | None:
        fleet = BY_KEY["sluice_2"]
        if fleet.key not in self.only:
            return None
        with self.steps.part(f"imports of {self.sizes.import_rows:,} rows"):
            return await imports(
                self.templates,
                fleet,
                self.folder,
                rows=self.sizes.import_rows,
                times=self.sizes.imports,
            )


NEEDS_PEERS = {PROCRASTINATE.key, CELERY_BULK.key, CELERY_OBJECTS.key}
"""Whose processes run in the environment of the competitors."""

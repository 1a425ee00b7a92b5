"""The migration files in their folder."""

import re

from alembic.config import Config
from alembic.script import ScriptDirectory

from db.migrate import _MIGRATIONS, known_revisions, latest_revision


def test_file_names_tell_the_revisions():
    """The revisions read from the file names, which saves loading alembic, equal those that alembic
    finds. They form one line with the same newest revision.
    """
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    found = [script.revision for script in scripts.walk_revisions()]
    assert found[::-1] == known_revisions()
    assert scripts.get_heads() == [latest_revision()]
    for script in scripts.walk_revisions():
        file = _MIGRATIONS / "versions" / script.path
        assert file.with_suffix(".sql").exists()
        # A deploy runs `pre` migrations before its code, and `post` ones after the old code has
        # ended.
        assert re.fullmatch(r"0001_initial|\d{4}_(pre|post)_[a-z0-9_]+", file.stem)

"""The migrations as they lie in their folder."""

import re

from alembic.config import Config
from alembic.script import ScriptDirectory

from db.migrate import _MIGRATIONS, known_revisions, latest_revision


def test_file_names_tell_the_revisions():
    """What is read from the names, to spare every command the loading of alembic, is what
    alembic finds: the same revisions, in one line, with the same newest one.
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
        # A deploy runs `pre` ones before its code, and `post` ones when the old code is gone.
        assert re.fullmatch(r"0001_initial|\d{4}_(pre|post)_[a-z0-9_]+", file.stem)

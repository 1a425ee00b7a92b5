"""The migrations as they lie in their folder."""

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
        assert (_MIGRATIONS / "versions" / script.path).with_suffix(".sql").exists()

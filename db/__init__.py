"""Storage in Postgres: named SQL in `sql/`, typed functions around it. Knows no rule."""

"""The tests: `unit` is pure, `integration` has real servers, `acceptance` runs processes."""

"""The rules: one file per bulk action, each a pure function from what is known to a decision.

Every module of this package that defines a subclass of `BulkAction` adds an action; adding one
is adding a file. Imports only `schemas`.
"""

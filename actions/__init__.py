"""The rules: one file per bulk action, each a pure decision on the state of an address.

To add an action, add a module with a subclass of `BulkAction`. Imports only `schemas`.
"""

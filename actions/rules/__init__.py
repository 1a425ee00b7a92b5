"""The rules that all bulk actions share: propagation, and the decisions of a chunk."""

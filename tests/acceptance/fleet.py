"""The worker processes of the acceptance tests are those of the storm (`make chaos`)."""

from chaos.worker_group import ROOT, WorkerGroup

__all__ = ["ROOT", "WorkerGroup"]

"""The closed list of log events."""

_NAMES = """job.submitted job.planned job.started chunk.processed chunk.failed chunk.split
chunk.interrupted job.paused job.resumed job.cancelled job.completed job.failed
job.not_understood import.completed opt_out.received worker.started worker.stopped worker.failed
sweep.rang queue.measured queue.unreachable queue.recovered database.unreachable
database.recovered library.logged""".split()
globals().update({name.replace(".", "_").upper(): name for name in _NAMES})

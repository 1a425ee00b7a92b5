"""The web processes of the acceptance tests are started like those of the storm."""

from chaos.web_process import WebGroup, unused_port

__all__ = ["WebGroup", "unused_port"]

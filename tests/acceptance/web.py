"""The web processes of the acceptance tests are started like those of the measurements."""

from chaos.web_group import WebGroup, unused_port

__all__ = ["WebGroup", "unused_port"]

"""The loop on a host: take the desired state, apply it, report."""

from portward.agent.assembly import cleanup, run

__all__ = ["cleanup", "run"]

"""The loop on a host: take the desired state, apply it, report."""

"""What must hold whoever calls: every rule of the domain lives here, in the caller's transaction."""

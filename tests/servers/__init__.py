"""Real servers for tests and benchmarks: on private sockets in a directory of their own, and gone when closed."""

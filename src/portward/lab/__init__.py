"""Networks made of namespaces, for the demo, the packet tests and the benchmarks."""

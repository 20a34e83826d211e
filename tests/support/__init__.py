"""Code common to tests and benchmarks: servers, processes, payload builders, fakes."""

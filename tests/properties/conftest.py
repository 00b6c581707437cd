"""One profile for all property tests: quick, and the same examples on every machine."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "portward",
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("portward")

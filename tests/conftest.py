"""What holds for every test."""

from hypothesis import HealthCheck, settings

# The machines are noisy: how long an example takes says nothing about the code.
settings.register_profile("errand", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("errand")

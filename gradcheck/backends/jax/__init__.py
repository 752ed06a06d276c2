"""The JAX backend: functions on JAX arrays, custom rules and callable pytrees."""

"""What guarding costs at run time: ``python -m benchmarks.runtime``."""

"""What `gradguard run` costs and changes on published programs: ``python -m benchmarks.run``."""

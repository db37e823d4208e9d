"""The half of gradguard that watches a live process; imports torch."""

from gradguard.runtime.filtering import backward
from gradguard.runtime.flow import assert_isolated, flow
from gradguard.runtime.freeze import frozen
from gradguard.runtime.guard import Guard, only

__all__ = ["Guard", "assert_isolated", "backward", "flow", "frozen", "only"]

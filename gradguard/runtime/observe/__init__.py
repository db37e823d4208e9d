"""The eyes of ``gradguard run``: an unmodified program, observed with nothing declared."""

from gradguard.runtime.observe.observer import Observer

__all__ = ["Observer"]

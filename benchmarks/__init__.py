"""Measurements: figures that the project promises, each taken by one command."""

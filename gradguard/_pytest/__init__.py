"""What the pytest plugin is made of; loaded when a test first needs it."""

"""What linting costs: against a parse of the same files, against TorchFix, and by size."""

"""Policy, events, ledger and findings: what both halves of gradguard share."""

"""References and what the difference to them says."""

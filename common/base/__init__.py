"""The base regressor: its networks, its weights, its intervals."""

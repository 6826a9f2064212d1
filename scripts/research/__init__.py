"""Studies of the released weights."""

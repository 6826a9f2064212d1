"""How everything in weights/ is made."""

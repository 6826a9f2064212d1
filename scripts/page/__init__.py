"""The page of age_app."""

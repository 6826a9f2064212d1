"""Faces in pictures: reading, finding, aligning and recognising them."""

"""Faces in images: reading, finding, aligning and recognising them."""

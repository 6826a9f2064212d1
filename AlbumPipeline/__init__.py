"""AlbumPipeline: birth dates and photo dates of an album, from the estimated ages of its faces, solved together."""

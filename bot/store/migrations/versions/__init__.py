"""One module per version, named after its revision."""

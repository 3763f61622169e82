"""Ground truth of others, read into our nouns; RAS becomes LPS here."""

"""Networks and arrays → predictions: tiles, precision, the device; no anatomy and no files."""

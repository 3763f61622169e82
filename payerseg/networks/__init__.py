"""Network definitions and their weights; Keras only, one definition for every backend."""

"""Network output to anatomy: the spine's box, candidates, named vertebrae, clean masks."""

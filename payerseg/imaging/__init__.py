"""Image files, orientation, resampling and regions: the only room that knows file formats and ITK."""

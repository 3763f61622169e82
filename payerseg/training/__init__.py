"""Make networks: targets, augmentation, losses, packed data sets, the training loop, export."""

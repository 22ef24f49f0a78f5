"""From raw files to episodes: sources, the image table, class splits, episodes, augmentation."""

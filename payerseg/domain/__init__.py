"""The nouns of payerseg: grid, volume, vertebra, landmarks, spine box; numpy only."""

"""What is left of a trained network's accuracy under attack and on corrupted images. Trains nothing."""

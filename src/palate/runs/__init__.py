"""Runs: the output folder of a training, its manifest, and the dataset that it was trained on."""

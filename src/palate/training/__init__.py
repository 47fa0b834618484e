"""What the trainer is made of: the clock, the batches, and transformers' Trainer fitted to the composed model."""

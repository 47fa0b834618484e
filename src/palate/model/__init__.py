"""User encoders, backbones, and the door between them."""

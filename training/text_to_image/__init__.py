"""A small FLUX of diffusers, trained on a CPU on pictures and mosaics of two, whose parts are known."""

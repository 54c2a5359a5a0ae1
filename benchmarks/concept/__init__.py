"""Parts of ``benchmarks.concepts``: held-out mosaics, passes of the denoiser, maps of many at once, their scores."""

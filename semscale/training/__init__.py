"""Training of the bundled model: captions, batches, loop; run it with `python -m semscale.training.mini`."""

"""How the bundled model came about: captions, batches, loop; run it with `python -m semscale.training.mini`."""

"""How the bundled model came about: captions, batches, loss, loop; run it with `python -m semscale.training.mini`."""

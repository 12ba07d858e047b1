"""Zero-shot labelling of images or texts with categories, without true classes and without a study."""

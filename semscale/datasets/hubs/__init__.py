"""Datasets of other libraries: Hugging Face datasets and torchvision."""

"""Loaders of other libraries' datasets: Hugging Face datasets and torchvision."""

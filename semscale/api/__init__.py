"""What ``import semscale`` offers: the four stages as functions, with pandas tables between them."""

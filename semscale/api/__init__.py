"""Python interface: the four stages as functions, with pandas tables between them."""

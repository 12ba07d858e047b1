"""Python interface: the four stages as functions, connected by pandas tables."""

"""What does a person see? Pages made from the store."""

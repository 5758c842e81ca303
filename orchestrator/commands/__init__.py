"""What the commands beside `relight run` know and print."""

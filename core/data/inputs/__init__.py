"""What a result is made from, and which of it has changed since."""

"""What is sampled, and from which batch."""

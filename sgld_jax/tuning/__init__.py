"""What runs chains in order to judge them."""

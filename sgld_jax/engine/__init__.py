"""How chains are run: a scan over draws, a vmap over chains."""

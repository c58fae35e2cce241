"""`python -m sgld_jax` is the command `sgld-jax`."""

from sgld_jax.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

"""`python -m harness` is `provado`."""

from .cli import main

main()

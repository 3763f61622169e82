"""`python -m payerseg`."""

from payerseg.cli.app import main

if __name__ == "__main__":
    main()

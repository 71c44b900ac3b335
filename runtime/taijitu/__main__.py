"""`python -m taijitu COMMAND ...` is `taijitu COMMAND ...`."""

from taijitu.command import main

if __name__ == "__main__":
    raise SystemExit(main())

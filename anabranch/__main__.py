"""`python -m anabranch` is the `anabranch` command."""

from anabranch.cli.main import app

if __name__ == "__main__":
    app()

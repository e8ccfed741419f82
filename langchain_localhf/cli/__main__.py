"""`python -m langchain_localhf.cli`, where the `localhf` script is not on the path."""

from langchain_localhf.cli.commands import main

if __name__ == "__main__":
    main(prog_name="localhf")

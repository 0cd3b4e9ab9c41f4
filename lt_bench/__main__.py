"""`python -m lt_bench` is `lt-bench`."""

from lt_bench.cli import main

if __name__ == "__main__":
    main()

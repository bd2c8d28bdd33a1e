"""The tests, a package so that they and the benchmarks can import `tests.helpers`."""

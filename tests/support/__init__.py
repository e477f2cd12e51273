"""What several test folders and the benchmarks share: doubles, worlds and rows; it holds no test."""

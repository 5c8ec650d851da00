"""What tests and benchmarks start real parts with; asserts nothing itself."""

"""The project's benchmarks: what it costs against doing the same by bare means, and the targets for that."""

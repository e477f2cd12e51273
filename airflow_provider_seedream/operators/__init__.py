"""The operators that a DAG author imports: parameters and checks, and one call into ``worker`` a method."""

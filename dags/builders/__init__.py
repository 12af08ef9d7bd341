"""The builders: each module here holds one class that turns one validated configuration into a DAG."""

"""The tests; a package, so that those which some libraries install under this name do not stand in its place."""

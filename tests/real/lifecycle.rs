//! One app from its installation to its end, against Crossbar, Docker and the registry.

"""Dataset descriptors: one TOML file per public dataset layout, read by ``fer_data.manifest``."""

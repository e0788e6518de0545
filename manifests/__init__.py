"""Dataset descriptors: one TOML file per public dataset layout, read by ``aupipe.fer_data.manifest``."""

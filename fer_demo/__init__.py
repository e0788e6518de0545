"""The whole job on embedded faces, and the faces."""

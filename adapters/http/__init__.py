"""What backends that are asked by HTTP have in common: requests made of templates, which headers pass, how TLS is checked."""

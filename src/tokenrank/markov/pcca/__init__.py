"""PCCA+: memberships of metastable states, the exchange search for them, and how many there are."""

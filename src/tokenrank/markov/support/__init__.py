"""Questions to the support alone, exact: what can be reached, what communicates, how many recurrent classes."""

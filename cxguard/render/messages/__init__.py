"""The texts of cxguard, one file for each locale, and the catalogue that reads them."""

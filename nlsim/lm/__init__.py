"""Language models behind one interface: which of these tokens comes next, and write text."""

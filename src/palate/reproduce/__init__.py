"""The paper's tables, rebuilt: cells that are trained once, beside the paper's own figures."""

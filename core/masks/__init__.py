"""Label maps and caption masks: protocol, decision, production, result files."""

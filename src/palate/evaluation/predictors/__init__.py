"""Everything that answers: references and models behind one protocol."""

"""From a conversation or a text to replies on the wire, whichever endpoint it came in through."""

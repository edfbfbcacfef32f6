"""The shapes on the wire, OpenAI's to the letter. Imports msgspec and the standard library only."""

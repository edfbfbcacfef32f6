"""The server: OpenAI's chat API over one base and many adapters.

It may import ``adapters`` and the torch-free ``training.runs``, nothing else of this project.
"""

"""The server: OpenAI's chat API over one base and many adapters.

It may import ``adapters``, and of ``training`` the records that need no torch: runs, recipes,
manifests and sweeps. Its packages, and who may import whom, are in ``ARCHITECTURE.md``.
"""

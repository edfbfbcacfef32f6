"""The console: its files, in ``static``, and what it does beyond talking.

Its pages ask for that through ``server.routes``; it is what the command line does, and where that
takes torch or a while, it is the command line that does it.
"""

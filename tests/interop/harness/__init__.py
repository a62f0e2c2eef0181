"""What the interop tests stand on: processes, certificates, servers, clients, origins and a SOCKS5 dialler.

Nothing in here asserts anything about the product; that is what the `test_*.py` modules beside it are for.
"""

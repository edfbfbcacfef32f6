"""Clients that read streams and nothing else, in a process of their own: what they do is not ours.

Run as ``python -m admin.bench.stream_readers PORT CONCURRENCY``. A line of input is a JSON array of
whole requests, HTTP headers included, as texts; each goes over a connection of its own. The line of
output that answers it is the number of reads that it took; standard error says what failed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence

_READ_BYTES = 1 << 16
_END = b"data: [DONE]"
_TAIL = 64


async def read_all(port: int, requests: Sequence[str], concurrency: int) -> int:
    """Send ``requests``, so many at a time, and read to their ends; how many reads that took.

    Raises:
        ValueError: a stream had no end, or was none; what it began with is in the message.
    """
    waiting = iter(requests)

    async def reader() -> int:
        return sum([await _read(port, request.encode()) for request in waiting])

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(reader()) for _ in range(concurrency)]
    return sum(task.result() for task in tasks)


async def _read(port: int, request: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        reads, begin, tail = 0, b"", b""
        while data := await reader.read(_READ_BYTES):
            reads += 1
            begin, tail = begin or data, (tail + data)[-_TAIL:]
    finally:
        writer.close()
    if _END not in tail:
        raise ValueError(f"no stream, or none with an end: {begin[:500]!r}")
    return reads


def main(port: int, concurrency: int) -> None:
    """Do what each line of standard input says."""
    for line in sys.stdin:
        reads = asyncio.run(read_all(port, json.loads(line), concurrency))
        sys.stdout.write(f"{reads}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

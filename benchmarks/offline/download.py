"""Images/s of `fetch-images` over loopback, beside a bare aiohttp loop that fetches the same URLs as often at once.

    python benchmarks/offline/download.py --images 5000

The server is a process of its own and answers from memory. The bare loop reads bodies and throws them away: no check of
addresses, no limits, no decoding, no hashing, no files, no ledger. The jobs's figure includes all of that.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import multiprocessing
import resource
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp
import numpy as np
import polars as pl
from PIL import Image
from pydantic import BaseModel
from results import record

from offline_jobs.image_download.settings import FetchImagesSettings
from offline_jobs.image_download.stage import run_fetch_images
from training.stage import open_stage

KINDS = 200
"""Different images; the last bytes of each answer make them all distinct."""


class NoSettings(BaseModel):
    """Of the stage that stands in for ingest."""


def serve(pipe: Connection, side: int) -> None:
    """Answer `/N.jpg` with image N until killed."""
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(KINDS):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        out = io.BytesIO()
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(out, "JPEG", quality=85)
        pictures.append(out.getvalue())

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                number = int(head.split(b"/", 2)[1].split(b".")[0])
                body = pictures[number % KINDS] + b"%020d" % number
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(body))
                writer.write(body)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(connection, "127.0.0.1", 0)
        pipe.send((server.sockets[0].getsockname()[1], sum(map(len, pictures)) // KINDS))
        await server.serve_forever()

    asyncio.run(main())


async def bare(urls: list[str], at_once: int) -> int:
    """Fetch every URL, `at_once` at a time; returns the bytes."""
    waiting, total = iter(urls), 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once)) as session:

        async def worker() -> None:
            nonlocal total
            for url in waiting:
                async with session.get(url) as response:
                    total += len(await response.read())

        await asyncio.gather(*(worker() for _ in range(at_once)))
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--side", type=int, default=300, help="pixels, both ways")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--out", type=Path, help="append one JSON line to this file")
    given = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, given.side), daemon=True)
    server.start()
    theirs.close()
    try:
        port, mean_bytes = ours.recv()
        urls = [f"http://127.0.0.1:{port}/{number}.jpg" for number in range(given.images)]
        asyncio.run(bare(urls[:200], given.concurrency))
        start = time.perf_counter()
        asyncio.run(bare(urls, given.concurrency))
        reference = time.perf_counter() - start
        with tempfile.TemporaryDirectory(prefix="download-") as folder:
            work = Path(folder)
            with open_stage(work, "ingest", version=1, inputs={}, settings=NoSettings()) as stage:
                ids = [f"{number:08}" for number in range(given.images)]
                pl.DataFrame({"item_id": ids, "image": urls}).write_parquet(stage.out / "items.parquet")
            settings = FetchImagesSettings(
                concurrency=given.concurrency,
                concurrency_per_host=given.concurrency,
                requests_per_second=0,
                allow_hosts="127.0.0.1",
                ports=str(port),
            )
            start, used = time.perf_counter(), time.process_time()
            run_fetch_images(settings, work)
            seconds, used = time.perf_counter() - start, time.process_time() - used
            states = pl.read_parquet(work / "images/ledger.parquet")["state"].value_counts()
            assert states.to_dicts() == [{"state": "ok", "count": given.images}]
    finally:
        server.terminate()
        server.join()
    result = {
        "images": given.images,
        "mean_bytes": mean_bytes,
        "concurrency": given.concurrency,
        "images_per_s": round(given.images / seconds),
        "bare_images_per_s": round(given.images / reference),
        "ratio_to_bare": round(seconds / reference, 2),
        "cpu_ms_per_image": round(used / given.images * 1000, 3),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    record("download", result, given.out)


if __name__ == "__main__":
    main()

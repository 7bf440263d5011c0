"""Documents at a steady rate, from a process of its own, while something else is measured."""

import multiprocessing
import time

from web import Web

PER_REQUEST = 100


class Writer:
    """Sends the same bodies over and over, one each PER_REQUEST documents, until it is left. Use with `with`."""

    def __init__(self, url, index, bodies, rate):
        self.written = multiprocessing.Value("q", 0)
        self.late = multiprocessing.Value("d", 0.0)
        self.process = multiprocessing.Process(target=send, args=(url, index, bodies, rate, self.written, self.late), daemon=True)

    def __enter__(self):
        self.began = time.monotonic()
        self.process.start()
        while self.written.value == 0 and self.process.is_alive():
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        self.rate = self.written.value / (time.monotonic() - self.began)
        self.process.terminate()
        self.process.join()


def send(url, index, bodies, rate, written, late):
    web = Web(url, timeout=120)
    pause = PER_REQUEST / rate
    due = time.monotonic()
    number = 0
    while True:
        answer = web.expect("POST", f"/{index}/_bulk?filter_path=errors,items.*._seq_no,items.*._primary_term,items.*._id,items.*._index,items.*.result,items.*.status", bodies[number % len(bodies)], kind="application/x-ndjson")
        if answer["errors"]:
            raise RuntimeError("a bulk request was refused in part")
        number += 1
        written.value += PER_REQUEST
        due += pause
        if (wait := due - time.monotonic()) > 0:
            time.sleep(wait)
        else:
            late.value = max(late.value, -wait)

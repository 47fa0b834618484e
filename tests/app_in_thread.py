"""Runs an ASGI app on a local port, in a thread."""

import threading
import time
from contextlib import contextmanager

import uvicorn


@contextmanager
def app_in_thread(app, port=0):
    """Serve the app during the block and yield its address; picks a free port by default."""
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()

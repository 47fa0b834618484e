"""Runs vLLM for tests: a separate process and environment, on a free local port."""

import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager

import httpx

PYTHON = "PALATE_VLLM_PYTHON"
"""Environment variable with the Python of the environment that vLLM is installed in; ``make test-engine`` sets it."""
SETTINGS = {
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    # the first request compiles otherwise, and on a busy machine the engine takes itself for dead meanwhile
    "TORCH_COMPILE_DISABLE": "1",
    "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": "1800",
}


@contextmanager
def vllm(model, dtype, log, *arguments):
    """Start an engine and wait until it answers; return its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(os.environ[PYTHON], "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(model), "--served-model-name", "backbone", "--dtype", dtype),
        *("--enable-prompt-embeds", "--enforce-eager", "--max-model-len", "512"),
        *("--host", "127.0.0.1", "--port", str(port), *map(str, arguments)),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env={**environment, **SETTINGS}, start_new_session=True
        )
        try:
            url = f"http://127.0.0.1:{port}"
            while not _answers(url):
                assert process.poll() is None, "the engine ended before it answered"
                time.sleep(1)
            yield url
        except BaseException:
            ended = f"the engine's log ends (exit status {process.poll()}):\n{_tail(log, 12_000)}"
            print(ended)  # noqa: T201 - pytest shows it with the failure
            raise
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _tail(log, characters):
    return log.read_text(errors="replace")[-characters:]


def _answers(url):
    try:
        return httpx.get(f"{url}/health", timeout=30).is_success
    except httpx.HTTPError:
        return False
